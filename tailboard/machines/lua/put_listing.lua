-- Stores the listing of the files of a job, which shows them to readers.
--
-- KEYS[1]  prefix of all keys
-- ARGV[1]  ID of the job
-- ARGV[2]  token of the take
-- ARGV[3]  number of chunks that belong to it (0: drop those that Redis has)
-- ARGV[4]  listing
-- ARGV[5]  its version
-- ARGV[6]  bytes in the chunks
--
-- Returns 1; 0 if Redis lacks chunks; -1 if the spool is fenced; -2 if Redis does not have the job,
-- or is behind.

local id, token, count, listing, version, size = unpack(ARGV)
local refused = refusal(id, token)
if refused then return refused end
local key = P..'files:'..id
if count == '0' then redis.call('UNLINK', key)  -- first, so that a full Redis lets this script write
elseif (try('HGET', key, 'next') or '') ~= count then return 0 end
redis.call('HDEL', key, 'next')
redis.call('HSET', key, 'listing', listing, 'version', version)
redis.call('HSET', P..'state:'..id, 'files', size)
return 1
