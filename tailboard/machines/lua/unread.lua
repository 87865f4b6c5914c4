-- Counts one reader of a log less.
--
-- KEYS[1]  prefix of all keys
-- ARGV[1]  ID of the job
--
-- Returns nothing.

local key = P..'reading:'..ARGV[1]
if redis.call('DECR', key) <= 0 then redis.call('DEL', key) end
