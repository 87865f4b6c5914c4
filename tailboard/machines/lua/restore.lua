-- Puts back a job that Redis has lost, from the spool of its machine. If Redis has the job in a
-- state that is as new, that state remains.
--
-- KEYS[1]  prefix of all keys
-- ARGV[1]  ID of the job
-- ARGV[2]  status
-- ARGV[3]  queue
-- ARGV[4]  job: its line of JSON, then its journal
-- ARGV[5]  token of the take
-- ARGV[6]  reason of a cancel request that has reached the spool ('': no request)
-- ARGV[7]  key of its options ('': none)
-- ARGV[8]  1 if it was submitted as urgent, else 0
-- ARGV[9]  its own rules of notifications: 'some', 'none' ('': as the default says)
-- ARGV[10] '1' if its saved command has a ping URL, 'started' if it has also started ('': none)
-- ARGV[11] 1 if it ended so long ago that nobody is to be notified of that, else 0
-- ARGV[12] the values of its secret params, encrypted ('': none)
--
-- Returns the status that the job has now, or 'fenced' or 'cancel' (see report.lua).

local id, to, queue, job, token, reason, key, urgent, notify, pings, is_old, params = unpack(ARGV)
local spool = spool_of(token)
if redis.call('SISMEMBER', P..'gone:'..spool, id) == 1 then return 'fenced' end
local s = fields(id, 'status', 'queue', 'token', 'takes', 'cancel')
make_state(id)
if s[1] then
  local compared = compare(token, s[1], s[3], s[4])
  if compared == 'fenced' then return compared end
  if compared == 'same' and is_status(s[1]) and record(id) then return s[1] end
  if s[5] and to ~= 'cancelled' and to ~= 'running' then return 'cancel' end
  leave(id, s[1], s[2], s[3])
end
redis.call('SET', P..'job:'..id, job)
redis.call('HSET', P..'state:'..id, 'takes', number_of(token))
if params ~= '' then redis.call('HSET', P..'state:'..id, 'params', params) end
redis.call('ZADD', P..'all', 0, id)
set_order(id, key, urgent, '')
set_notify(id, notify, pings)
enter(id, to, queue, token)
if is_old == '1' then redis.call('ZREM', P..'requests', id..' end') end
reason = s[5] or reason
if to == 'running' and reason ~= '' then request_cancel(id, token, reason)
else redis.call('HDEL', P..'state:'..id, 'cancel') end
return to
