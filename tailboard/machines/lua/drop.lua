-- Ends a job whose record is damaged as lost.
--
-- KEYS[1]  prefix of all keys
-- ARGV[1]  ID of the job
-- ARGV[2]  line for its journal
--
-- Returns nothing.

drop(ARGV[1], ARGV[2])
