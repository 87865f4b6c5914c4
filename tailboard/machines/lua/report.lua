-- Stores the status and the journal of a job, as the machine that has the job reports them.
--
-- KEYS[1]  prefix of all keys
-- ARGV[1]  ID of the job
-- ARGV[2]  token of the take
-- ARGV[3]  new status
-- ARGV[4]  journal, complete
-- ARGV[5]  bytes of the log that Redis must already hold (-1: any number)
-- ARGV[6]  1 if this report confirms a take, else 0
-- ARGV[7]  seconds until a job that is queued again may start (0: at once)
-- ARGV[8]  a line for the journal, if the run that follows this job cannot start because another
--          job has its key
-- ARGV[9]  what the ID of that other job replaces in the line
-- ARGV[10...21]  the run that follows this job, as ARGV[1...12] of submit.lua. It is submitted if
--          the report is stored. ARGV[8...21] are omitted if no run follows
--
-- Returns the new status if the report was stored. Otherwise it changes nothing and returns
--   absent    Redis does not have the job
--   behind    Redis has lost what it knew of the job: the spool must restore it
--   fenced    the job was taken away from this spool
--   cancel    a request to cancel the job was accepted, so the job must not start, run again or end
--             in another way: the spool records the cancellation and reports the job as cancelled
--   log       Redis lacks bytes of the log: the spool must send them first
--   paused    its queue is paused, so the job must not start
--   a status  the final status that the job has already

local id, token, to, journal, size, confirms, delay, line, place = unpack(ARGV)
local s = fields(id, 'status', 'queue', 'token', 'takes', 'log_size', 'cancel')
if not is_status(s[1]) then return 'absent' end
local compared, job = compare(token, s[1], s[3], s[4]), record(id)
if compared ~= 'same' then return compared end
if not job then return 'behind' end
if s[1] ~= to and s[1] ~= 'queued' and s[1] ~= 'running' then return s[1] end
if s[6] and to ~= 'cancelled' and (to ~= 'running' or confirms == '1') then return 'cancel' end
if confirms == '1' and s[1] == 'queued' and is_paused(s[2]) then return 'paused' end
if tonumber(size) > number(s[5]) then return 'log' end
leave(id, s[1], s[2], token, to)
if size == '0' and not s[5] then redis.call('HSET', P..'state:'..id, 'log_size', 0) end
redis.call('SET', P..'job:'..id, string.match(job, '^[^\n]*\n')..journal)
if to == 'queued' then
  next_take(id)
  token = ''
end
enter(id, to, s[2], token, after(delay))
if line then
  local following = submit(unpack(ARGV, 10))
  if type(following) == 'table' then
    redis.call('APPEND', P..'job:'..id, (string.gsub(line, place, following[2], 1)))
  end
end
if to ~= 'queued' and to ~= 'running' then
  redis.call('HDEL', P..'state:'..id, 'cancel')
  if number(s[5]) > 0 and number(s[5]) < 4000 then
    -- A copy of a small stream has no room to grow, which saves 3 KB.
    if redis.call('COPY', P..'log:'..id, P..'copy:'..id, 'REPLACE') == 1 then
      redis.call('RENAME', P..'copy:'..id, P..'log:'..id)
    end
  end
end
return to
