-- Gives queued jobs to a machine: first the urgent ones, then the oldest. Sets aside those that
-- wait for others, and cancels those that can never start. A job that the machine has taken and not
-- yet confirmed is returned again, so the machine can safely repeat the call.
--
-- KEYS[1]  prefix of all keys
-- ARGV[1]  spool of the machine
-- ARGV[2]  number of unconfirmed jobs that the machine wants to have after this call
-- ARGV[3]  highest version of job.json that the machine knows
-- ARGV[4]  line for the journal of a job whose record is damaged
-- ARGV[5]  epoch that the machine saw last ('': none)
-- ARGV[6]  number of this spool's last report in that epoch
-- ARGV[7]  longest time for restoring, in seconds
-- ARGV[8]  the time, as in a journal
-- ARGV[9...]  queues to take from (none: all queues), or, each after a "!", queues not to take from
--
-- Returns {{{id, token, log_size, job}...}, next_due, expects}: the unconfirmed jobs of this spool;
-- the seconds until the next delayed job may start ('': no job is delayed, '0': there may be more
-- jobs to look at); and 1 if there are no unconfirmed jobs, but jobs that wait for a running one,
-- else 0. log_size is '' if Redis has no log of the job. Returns false if Redis has returned to an
-- older state. While machines restore what that state lacks, it returns no job.

local spool, want, version, line, at = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[8]
if has_returned(spool, ARGV[5], ARGV[6]) then return false end
if count_restoring(ARGV[7]) > 0 then return {{}, '1', 0} end
local ids = redis.call('ZRANGE', P..'taken:'..spool, 0, -1)
local now, next_due, limits = clock(), '', {}
local busy, busy_keys  -- how many running jobs each queue has; the running job of each key

local function served_queues()
  local names, served, excluded = {unpack(ARGV, 9)}, {}, {}
  if #names > 0 and string.sub(names[1], 1, 1) ~= '!' then return names end
  for _, name in ipairs(names) do excluded[string.sub(name, 2)] = true end
  for _, queue in ipairs(redis.call('SMEMBERS', P..'queues')) do
    if not excluded[queue] then served[#served + 1] = queue end
  end
  return served
end

-- Moves jobs whose time has come from a sorted set of the queue to the jobs to look at.
local function move_due(set, queue, time, count)
  local first = redis.call('ZRANGE', set, 0, 0, 'WITHSCORES')
  if not first[1] or tonumber(first[2]) > tonumber(time) then return first end
  for _, id in ipairs(redis.call('ZRANGE', set, '-inf', time, 'BYSCORE', 'LIMIT', 0, count)) do
    redis.call('ZREM', set, id)
    list(queue, id)
  end
  return redis.call('ZRANGE', set, 0, 0, 'WITHSCORES')
end

local function read_limits()
  local stored = redis.call('HGETALL', P..'limits')
  for place = 1, #stored, 2 do
    local is_json, found = pcall(cjson.decode, stored[place + 1])
    local limit = is_json and type(found) == 'table' and found.limit
    if limit ~= cjson.null then
      local is_whole = type(limit) == 'number' and limit == math.floor(limit)
      local is_good = is_whole and limit >= 1 and limit <= MAX_LIMIT
      limits[stored[place]] = is_good and limit or DAMAGED_LIMIT
    end
  end
end

local function count_job(id, queue, key)
  busy[queue] = (busy[queue] or 0) + 1
  if key ~= '' then busy_keys[key] = id end
end

-- Counts the running jobs, once. Only limits and keys need that.
local function count_running()
  if busy then return end
  busy, busy_keys = {}, {}
  for _, job in ipairs(list_running(spool)) do count_job(unpack(job)) end
end

local function is_full(queue)
  if not limits[queue] then return false end
  count_running()
  return (busy[queue] or 0) >= limits[queue]
end

-- The next job that is to be looked at, and its queue.
local function find_first(queues)
  local best, from, place
  for _, queue in ipairs(queues) do
    local first = redis.call('ZRANGE', P..'queue:'..queue, 0, 0, 'WITHSCORES')
    local id, score = first[1], tonumber(first[2])
    local is_first = id and (not best or score < place or (score == place and id < best))
    if is_first and not is_full(queue) then best, from, place = id, queue, score end
  end
  return best, from
end

-- Can this job start now? If not, it is set aside or cancelled. `parents`: the field `after`.
local function has_turn(id, queue, parents, key)
  if parents then
    local open, failure = look_at_parents(id)
    if failure then cancel_queued(id, failure, at) return false end
    if #open > 0 then wait_for_parents(queue, id, open) return false end
  end
  if key then
    local newer = redis.call('HGET', P..'replacing', key)
    if newer and newer > id and fields(newer, 'status')[1] == 'queued' then
      cancel_queued(id, replaced_by(newer), at)  -- it was running when that one was submitted
      return false
    end
    count_running()
    if busy_keys[key] then wait_for_key(queue, id, key) return false end
  end
  return true
end

local function take(id, queue, key)
  redis.call('HSET', P..'state:'..id, 'token', spool..':'..next_take(id))
  redis.call('ZADD', P..'taken:'..spool, 0, id)
  ids[#ids + 1] = id
  if busy then count_job(id, queue, key or '') end
end

-- Does a job of these queues wait for one that runs?
local function expects_more(queues)
  local waiting = {}
  for _, queue in ipairs(queues) do
    if redis.call('ZCARD', P..'queue:'..queue) > 0 then return true end  -- the queue is full
    if redis.call('ZCARD', P..'waiting:'..queue) > 0 then waiting[#waiting + 1] = queue end
  end
  if #waiting == 0 then return false end
  for _, job in ipairs(list_running(spool)) do
    for _, queue in ipairs(waiting) do
      if try('EXISTS', P..'key-waiters:'..queue..':'..job[3]) == 1 then return true end
      for _, id in ipairs(try('ZRANGE', P..'waiters:'..job[1], 0, -1) or {}) do
        if redis.call('ZSCORE', P..'waiting:'..queue, id) then return true end
      end
    end
  end
  return false
end

local open = {}
for _, queue in ipairs(served_queues()) do
  if not is_paused(queue) then
    open[#open + 1] = queue
    move_due(P..'newer:'..queue, queue, version, -1)
    local first = move_due(P..'delayed:'..queue, queue, now, -1)
    local left = first[1] and first[2] - now
    if left and (next_due == '' or left < next_due) then next_due = left end
    move_due(P..'waiting:'..queue, queue, now, RECHECKED_AT_ONCE)
  end
end
if wake_more() then next_due = 0 end
read_limits()
local seen = 0
while #ids < want do
  local best, from = find_first(open)
  if not best then break end
  if seen == SEEN_AT_ONCE then next_due = 0 break end
  seen = seen + 1
  redis.call('ZREM', P..'queue:'..from, best)
  local s, job = fields(best, 'status', 'after', 'job_key'), record(best)
  local status = s[1]
  if is_status(status) and status ~= 'queued' then  -- it was in this queue by mistake
  elseif not status or not job or #job > 2 * SMALL_FILE or not is_status(status) then
    drop(best, line, from)
  elseif has_turn(best, from, s[2], s[3]) then
    take(best, from, s[3])
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
      list(fields(id, 'queue')[1] or 'default', id)
    end
  end
end
return {out, tostring(next_due), #out == 0 and expects_more(open) and 1 or 0}
