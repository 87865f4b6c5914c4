-- Records that a machine is alive, cancels jobs that can never start, and returns the machine's
-- orders. A machine reports once a second. If none has reported for a while, that time does not
-- count as silence of the other machines. If Redis has the epoch that the relay saw but a lower
-- report number, Redis has returned to an older state, and a new epoch begins.
--
-- KEYS[1]  prefix of all keys
-- ARGV[1]  spool of the machine
-- ARGV[2]  its workers (JSON)
-- ARGV[3]  a new epoch, which is used if Redis has none or has returned to an older state
-- ARGV[4]  instance of the spool's relay ('': none)
-- ARGV[5]  when this instance began to report, in seconds since 1970 by the clock of Redis (0: this
--          is its first report)
-- ARGV[6]  an instance that is known to have ended ('': none)
-- ARGV[7]  seconds of silence after which any other instance counts as ended
-- ARGV[8]  epoch that this instance saw last ('': none)
-- ARGV[9]  number of this spool's last report in that epoch
-- ARGV[10]  longest time for restoring, in seconds
-- ARGV[11]  the time, as in a journal
--
-- Returns a list:
--   the epoch
--   {id, reason...} of jobs to cancel
--   {id...} of jobs to delete
--   {queue, pause...} of paused queues
--   the number of this report
--   when this instance began to report, in seconds since 1970
--   the number of machines that are restoring
--   1 if this machine is one of them, else 0
--   {queue, limit...} of the queues with a limit, each as in the file queues/QUEUE.json
-- If another instance, which began no later, has reported recently, it changes nothing and returns
-- {false, that instance, the number of its last report}.

local spool, shown, epoch, instance, since, ended, silence = unpack(ARGV)
local seen, known, period, present = unpack(ARGV, 8)
local stored = redis.call('HGET', P..'instances', spool) or ''
local is_older = false
local other, beats, began, at = string.match(stored, '^(%S+) (%d+) (%S+) (%S+)$')
since = tonumber(since) > 0 and tonumber(since) or clock()
if instance ~= '' then
  if other and other ~= instance and other ~= ended and tonumber(began) <= since
    and math.abs(clock() - at) < tonumber(silence) then return {false, other, beats} end
  is_older = has_returned(spool, seen, known)
  beats = number(beats) + 1
  redis.call('HDEL', P..'instances', spool)
  local use = string.format('%s %.0f %.3f %.3f', instance, beats, since, clock())
  redis.call('HSET', P..'instances', spool, use)
end
local heard, now = P..'heard', redis.call('TIME')[1]
local last = redis.call('ZRANGE', heard, -1, -1, 'WITHSCORES')[2]
redis.call('ZREM', heard, spool)
local unheard = last and now - last or 0
if unheard > 2 or unheard < 0 then  -- Redis was away or its clock was set: no silence
  for _, name in ipairs(redis.call('ZRANGE', heard, 0, -1)) do
    redis.call('ZADD', heard, redis.call('ZSCORE', heard, name) + unheard, name)
  end
end
redis.call('ZADD', heard, now, spool)
redis.call('HSET', P..'machines', spool, shown)
redis.call('SETNX', P..'epoch', epoch)
if is_older then
  redis.call('SET', P..'epoch', epoch)
  redis.call('SET', P..'rolled-back', now)
  redis.call('DEL', P..'restoring')
  for _, name in ipairs(redis.call('ZRANGE', heard, now - period, '+inf', 'BYSCORE')) do
    redis.call('ZADD', P..'restoring', now, name)
  end
end
wake_more()
cancel_unstartable(present)
local wishes = redis.call('HGETALL', P..'wishes:'..spool)
local gone = redis.call('SMEMBERS', P..'gone:'..spool)
return {redis.call('GET', P..'epoch'), wishes, gone, redis.call('HGETALL', P..'paused'),
        tostring(beats), string.format('%.3f', since), count_restoring(period),
        redis.call('ZSCORE', P..'restoring', spool) and 1 or 0,
        redis.call('HGETALL', P..'limits')}
