-- Stores a chunk of the files of a job. Chunk 0 replaces everything that Redis has of them.
--
-- KEYS[1]  prefix of all keys
-- ARGV[1]  ID of the job
-- ARGV[2]  token of the take
-- ARGV[3]  number of the chunk
-- ARGV[4]  the chunk
--
-- Returns the number of the chunk with which the spool must continue; -1 if the spool is fenced; -2
-- if Redis does not have the job, or is behind.

local id, token, place, chunk = unpack(ARGV)
local refused = refusal(id, token)
if refused then return refused end
local key = P..'files:'..id
if place == '0' then
  try('HSET', key, 'next', place)  -- first, so that a full Redis refuses the chunk
  redis.call('UNLINK', key)
  redis.call('HDEL', P..'state:'..id, 'files')
elseif (try('HGET', key, 'next') or '') ~= place then return 0 end
local following = string.format('%.0f', place + 1)
redis.call('HSET', key, place, chunk, 'next', following)
return tonumber(following)
