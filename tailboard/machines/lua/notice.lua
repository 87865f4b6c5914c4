-- Stores the record of what was noticed about a job, unless the job was deleted.
--
-- KEYS[1]  prefix of all keys
-- ARGV[1]  random name of the process
-- ARGV[2]  ID of the job
-- ARGV[3]  record (JSON)
-- ARGV[4]  time of the last change, in seconds since 1970
--
-- Returns 1, or 0 if another process is the sender: then it changes nothing.

local name, id, record, at = unpack(ARGV)
local sender = redis.call('GET', P..'sender')
if sender and sender ~= name then return 0 end
if status_of(id) then
  redis.call('SET', P..'notices:'..id, record)
  redis.call('ZADD', P..'noticed', at, id)
end
return 1
