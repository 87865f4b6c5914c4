-- Submits a job, unless a job with its ID or its Idempotency-Key exists.
--
-- KEYS[1]  prefix of all keys
-- ARGV[1]  ID of the job
-- ARGV[2]  queue
-- ARGV[3]  job: a line of JSON, as in job.json
-- ARGV[4]  hash of the Idempotency-Key ('': no key)
-- ARGV[5]  name of the saved command ('': none)
-- ARGV[6]  earliest start, in seconds since 1970 ('': at once)
-- ARGV[7]  hash of the request that came with the key ('': none)
--
-- Returns the ID of the job: this one, or the one that has the key.

return submit(unpack(ARGV))
