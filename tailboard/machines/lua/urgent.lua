-- Lets a queued job start before all others, or no longer.
--
-- KEYS[1]  prefix of all keys
-- ARGV[1]  ID of the job
-- ARGV[2]  1 if it is urgent, else 0
--
-- Returns 'done', 'absent', 'taken' if a machine has taken the job, or the status of a job that is
-- not queued.

local id, urgent = unpack(ARGV)
local s = fields(id, 'status', 'queue', 'token')
if s[1] ~= 'queued' then return s[1] or 'absent' end
if spool_of(s[3]) then return 'taken' end
local queue = s[2] or 'default'
redis.call('HDEL', P..'state:'..id, 'lane')
redis.call('HSET', P..'state:'..id, 'lane', urgent)
unpark(id)  -- it may come before the job with its key that was woken
if redis.call('ZSCORE', P..'queue:'..queue, id) then list(queue, id) end
announce(id, s[1])
return 'done'
