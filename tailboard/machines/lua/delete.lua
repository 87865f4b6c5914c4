-- Deletes a job that has ended, with its log and its files, and asks its machine to do so, too.
--
-- KEYS[1]  prefix of all keys
-- ARGV[1]  ID of the job
-- ARGV[2]  how many jobs that wait for others had been submitted when the caller found out that none
--          waits for this job (missing: it does not matter)
--
-- Returns 'deleted', 'absent', the status of a job that has not ended, or 'awaited' if another job
-- has been submitted since that might wait for this one.

local id = ARGV[1]
local s = fields(id, 'status', 'queue', 'token', 'key')
if not s[1] and redis.call('EXISTS', P..'job:'..id, P..'state:'..id) == 0 then return 'absent' end
if s[1] == 'queued' or s[1] == 'running' then return s[1] end
if ARGV[2] and ARGV[2] ~= (redis.call('HGET', P..'awaiting', 'submitted') or '') then
  return 'awaited'
end
if not is_status(s[1]) then s[1] = 'lost' end  -- as the API shows a damaged job
leave(id, s[1], s[2], s[3])
finish(id)
redis.call('ZREM', P..'all', id)
redis.call('UNLINK', P..'job:'..id, P..'state:'..id, P..'log:'..id, P..'times:'..id)
redis.call('UNLINK', P..'notices:'..id, P..'files:'..id, P..'usage:'..id)
redis.call('ZREM', P..'noticed', id)
if s[4] then redis.call('UNLINK', P..'key:'..s[4]) end
redis.call('HINCRBY', P..'deleted', s[1], 1)
local spool = spool_of(s[3])
if spool then
  redis.call('SADD', P..'gone:'..spool, id)
  redis.call('EXPIRE', P..'gone:'..spool, 7776000)  -- 90 days: its machine might never return
end
announce(id, 'deleted')
return 'deleted'
