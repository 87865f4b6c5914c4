-- Gives queued jobs to a machine, the oldest first. A job that the machine has taken and not yet
-- confirmed is returned again, so the machine can safely repeat the call.
--
-- KEYS[1]  prefix of all keys
-- ARGV[1]  spool of the machine
-- ARGV[2]  number of unconfirmed jobs that the machine wants to have after this call
-- ARGV[3]  highest version of job.json that the machine knows
-- ARGV[4]  line for the journal of a job whose record is damaged
-- ARGV[5]  epoch that the machine saw last ('': none)
-- ARGV[6]  number of this spool's last report in that epoch
-- ARGV[7]  longest time for restoring, in seconds
-- ARGV[8...]  queues to take from (none: all queues)
--
-- Returns {{{id, token, log_size, job}...}, next_due}: the unconfirmed jobs of this spool, and the
-- seconds until the next delayed job may start ('': no job is delayed). log_size is '' if Redis has
-- no log of the job. Returns false if Redis has returned to an older state. While machines restore
-- what that state lacks, it returns no job.

local spool, want, version, line = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local queues = {unpack(ARGV, 8)}
if has_returned(spool, ARGV[5], ARGV[6]) then return false end
if count_restoring(ARGV[7]) > 0 then return {{}, '1'} end
if #queues == 0 then queues = redis.call('SMEMBERS', P..'queues') end
local ids = redis.call('ZRANGE', P..'taken:'..spool, 0, -1)
local open, now, next_due = {}, clock(), ''
for _, queue in ipairs(queues) do
  if not is_paused(queue) then
    open[#open + 1] = queue
    for _, id in ipairs(redis.call('ZRANGE', P..'newer:'..queue, '-inf', version, 'BYSCORE')) do
      redis.call('ZREM', P..'newer:'..queue, id)
      redis.call('ZADD', P..'queue:'..queue, 0, id)
    end
    local delayed = P..'delayed:'..queue
    local first = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
    if first[1] and tonumber(first[2]) <= now then
      for _, id in ipairs(redis.call('ZRANGE', delayed, '-inf', now, 'BYSCORE')) do
        redis.call('ZREM', delayed, id)
        redis.call('ZADD', P..'queue:'..queue, 0, id)
      end
      first = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
    end
    local left = first[1] and first[2] - now
    if left and (next_due == '' or left < next_due) then next_due = left end
  end
end
while #ids < want do
  local best, from
  for _, queue in ipairs(open) do
    local first = redis.call('ZRANGE', P..'queue:'..queue, 0, 0)[1]
    if first and (not best or first < best) then best, from = first, queue end
  end
  if not best then break end
  redis.call('ZREM', P..'queue:'..from, best)
  local status, job = fields(best, 'status')[1], record(best)
  if is_status(status) and status ~= 'queued' then  -- it was in this queue by mistake
  elseif not status or not job or #job > 2 * SMALL_FILE or not is_status(status) then
    drop(best, line, from)
  else
    redis.call('HSET', P..'state:'..best, 'token', spool..':'..next_take(best))
    redis.call('ZADD', P..'taken:'..spool, 0, best)
    ids[#ids + 1] = best
  end
end
local out = {}
for _, id in ipairs(ids) do
  local s, job = fields(id, 'status', 'token', 'log_size'), record(id)
  if job and s[1] == 'queued' and spool_of(s[2]) == spool then
    out[#out + 1] = {id, s[2], s[3] or '', job}
  else
    redis.call('ZREM', P..'taken:'..spool, id)
    if not job or not is_status(s[1]) then
      drop(id, line)
    elseif s[1] == 'queued' and not spool_of(s[2]) then  -- its token is damaged
      redis.call('ZADD', P..'queue:'..(fields(id, 'queue')[1] or 'default'), 0, id)
    end
  end
end
return {out, tostring(next_due)}
