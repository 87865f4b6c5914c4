-- Begins each of the scripts in this folder: the map of the keys, and the functions that the
-- scripts share. It is not a script of its own.
--
-- The loader puts two constants of Python before this text: RUNS_KEPT, the number of jobs that are
-- remembered for a saved command, and SMALL_FILE, the largest size of a job's record and of its
-- journal, in bytes.
--
-- KEYS[1]  prefix of all keys, `tailboard:`
--
-- Several machines share their jobs through Redis. The keys, without the prefix:
--
--   job:ID           a line of JSON, as in job.json, then the job's journal
--   state:ID         a hash: status, queue, token, takes, log_size, log_start, log_at, cancel, key,
--                    request (a hash of what was sent with the key), and not_before if the job is
--                    or was delayed
--   log:ID           a stream: the entry E-0 holds the bytes that end at the offset E
--   times:ID         (time, size) samples of the log, as in the file `times`
--   reading:ID       number of readers of this log; expires after a minute
--   key:HASH         the job that was submitted with an Idempotency-Key
--   all, status:S, queue:Q
--                    sorted sets of IDs
--   queues           the set of queue names
--   newer:Q          a sorted set of queued jobs whose record has a newer version, which is the
--                    score; they wait for a machine that knows this version
--   delayed:Q        a sorted set of queued jobs that may not start yet; the score is the earliest
--                    start, in seconds since 1970. `take` moves due jobs to queue:Q
--   paused           a hash: the paused queues, each with its pause
--   taken:SPOOL, runs:SPOOL
--                    sorted sets of a machine's jobs: taken and not confirmed yet; running
--   wishes:SPOOL, gone:SPOOL
--                    a machine's orders: jobs to cancel, each with the reason; jobs to delete
--   heard            a sorted set of spools; the score is the time of the last report
--   machines         a hash: the workers of each spool
--   restoring        a sorted set of the machines that are restoring what an older state of Redis
--                    lacks; the score is the time when that began. Meanwhile no jobs are taken
--   rolled-back      when Redis was last found to have returned to an older state
--   instances        a hash: for each spool "INSTANCE N SINCE AT", that is its relay, the number
--                    of the last report, when the relay began to report, and the time of the last
--                    report. If two relays report at the same time, they use copies of one spool
--   changes          a stream of status changes; it wakes all waiting clients
--   deleted          a hash: the number of deleted jobs of each status
--   epoch            a random word, which is lost if Redis is emptied
--   session:HASH     a person who stays signed in, by the hash of the session key; expires
--   sessions         a sorted set of these hashes; the score is the time at which each expires
--   saved, schedules hashes by name: saved commands; which of their times are done
--   saved-runs:NAME  a list of the last jobs of a saved command, the newest first
--
-- A machine claims a job in two steps: `take` gives the job to its spool, and `report` confirms
-- that the job is stored there. The token SPOOL:N of a take fences. N grows with each take and with
-- each transition that happens without the machine, whose old token then no longer matches.
-- "behind" is something else: Redis has lost what it knew (restart, FLUSHALL), and the spool, whose
-- folder is the truth, restores its job.
--
-- If Redis is full (maxmemory), a script may still write if its first write frees or removes
-- something. So jobs can be cancelled, end and be deleted, and machines can report, while a submit
-- is refused.

local P = KEYS[1]

-- Wakes the clients that wait for a change of this job ('': of the queues).
local function announce(id, status)
  redis.call('XADD', P..'changes', 'MAXLEN', '~', 10000, '*', 'id', id, 'status', status)
end

local STATUSES = {'queued', 'running', 'succeeded', 'failed', 'cancelled', 'timed_out', 'lost'}
local function is_status(s)
  for _, known in ipairs(STATUSES) do if s == known then return true end end
  return false
end

-- Runs a command on a job's key, and returns nil if the key has another type. A person, an eviction
-- or another program can change a job's keys. A value that is not ours counts as missing, so that
-- it affects only this job.
local function try(command, key, ...)
  local found = redis.pcall(command, key, ...)
  if type(found) ~= 'table' or not found.err then return found end
  if not string.find(found.err, 'WRONGTYPE', 1, true) then redis.call(command, key, ...) end
  return nil
end

-- The values of fields of state:ID, each false or nil if it is missing.
local function fields(id, ...) return try('HMGET', P..'state:'..id, ...) or {} end

-- A job's record and journal, or nil if they are missing or damaged.
local function record(id)
  local found = try('GET', P..'job:'..id)
  if found and string.find(found, '\n', 1, true) then return found end
end

local function number(text) return tonumber(string.match(text or '', '^%d+$') or 0) end
local function is_paused(queue) return redis.call('HGET', P..'paused', queue) end
local function number_of(token) return tonumber(string.match(token or '', '%d+$') or 0) end
local function spool_of(token) return string.match(token or '', '^(.*):%d+$') end

-- Compares a spool's token with the stored one: 'same', 'behind' (Redis has lost something) or
-- 'fenced'.
local function compare(token, status, known, takes)
  if known == token then return 'same' end
  local newest = math.max(number(takes), number_of(known))
  if status == 'running' and not spool_of(known) then newest = newest - 1 end  -- it is damaged
  return newest < number_of(token) and 'behind' or 'fenced'
end

-- Removes a job from the sorted sets in which its status, queue and token put it. If the status is
-- damaged, removes it from those of every status. `to`: the status that it gets, if any.
local function leave(id, s, queue, token, to)
  for _, status in ipairs(is_status(s) and {s} or STATUSES) do
    redis.call('ZREM', P..'status:'..status, id)
  end
  queue = queue or 'default'
  redis.call('ZREM', P..'queue:'..queue, id)
  redis.call('ZREM', P..'delayed:'..queue, id)
  redis.call('ZREM', P..'newer:'..queue, id)
  local spool = spool_of(token)
  if spool then
    redis.call('ZREM', P..'taken:'..spool, id)
    redis.call('ZREM', P..'runs:'..spool, id)
    if to ~= 'running' then redis.call('HDEL', P..'wishes:'..spool, id) end
  end
end

-- Asks the machine of a token to cancel this job, even if the machine has not reported the start
-- yet, and even if it was asked before: it may have answered before it had the job.
local function request_cancel(id, token, reason)
  local wishes = P..'wishes:'..spool_of(token)
  redis.call('HDEL', wishes, id)  -- first, so that a full Redis lets this script write
  redis.call('HSET', P..'state:'..id, 'cancel', reason)
  redis.call('HSET', wishes, id, reason)
end

-- The time of Redis, in seconds since 1970.
local function clock()
  local now = redis.call('TIME')
  return now[1] + now[2] / 1000000
end

-- The time in so many seconds, or nil for 0 seconds.
local function after(seconds)
  if tonumber(seconds) > 0 then return string.format('%.3f', clock() + seconds) end
end

-- The number of the next token. If the last number is damaged, this is the time in seconds, which
-- is higher than any number in use.
local function next_take(id)
  local takes = redis.pcall('HINCRBY', P..'state:'..id, 'takes', 1)
  if type(takes) == 'number' then return takes end
  takes = math.floor(clock())
  redis.call('HSET', P..'state:'..id, 'takes', takes)
  return takes
end

-- Gives a job a status and adds it to the sorted sets of that status. `at`: the earliest start of a
-- queued job, in seconds since 1970, or nil.
local function enter(id, s, queue, token, at)
  queue = queue or 'default'
  redis.call('HSET', P..'state:'..id, 'status', s, 'queue', queue, 'token', token)
  redis.call('ZADD', P..'status:'..s, 0, id)
  if s == 'queued' then
    redis.call('SADD', P..'queues', queue)
    if at then
      redis.call('HSET', P..'state:'..id, 'not_before', at)
      redis.call('ZADD', P..'delayed:'..queue, at, id)
    else
      redis.call('HDEL', P..'state:'..id, 'not_before')
      redis.call('ZADD', P..'queue:'..queue, 0, id)
    end
  elseif s == 'running' then
    redis.call('ZADD', P..'runs:'..spool_of(token), 0, id)
  end
  announce(id, s)
end

-- Is the state of Redis older than the one that a spool has seen? `seen`: the epoch that the spool
-- saw ('': none); `known`: the number of its last report in that epoch.
local function has_returned(spool, seen, known)
  if seen == '' or redis.call('GET', P..'epoch') ~= seen then return false end
  local stored = redis.call('HGET', P..'instances', spool) or ''
  return number(known) > number(string.match(stored, '^%S+ (%d+)'))
end

-- The number of machines that began to restore less than `period` seconds ago.
local function count_restoring(period)
  return #redis.call('ZRANGE', P..'restoring', clock() - period, '+inf', 'BYSCORE')
end

-- Removes the key state:ID if it has another type.
local function make_state(id)
  if try('HGET', P..'state:'..id, 'status') == nil then redis.call('UNLINK', P..'state:'..id) end
end

-- Ends a job whose record is damaged as lost, and appends the line to its journal.
local function drop(id, line, queue)
  local s, job = fields(id, 'status', 'queue', 'token'), record(id) or ''
  leave(id, s[1], queue or s[2], s[3])
  make_state(id)
  if #job > 2 * SMALL_FILE then job = '' end  -- larger than its two files can be: unreadable
  redis.call('SET', P..'job:'..id, job..line)
  redis.call('ZADD', P..'all', 0, id)
  next_take(id)
  enter(id, 'lost', queue or s[2], '')
end

-- See submit.lua.
local function submit(id, queue, job, key, saved, at, request)
  if key ~= '' then
    local known = try('GET', P..'key:'..key)
    if known and redis.call('EXISTS', P..'state:'..known) == 1 then return known end
  end
  if redis.call('EXISTS', P..'state:'..id) == 1 then return id end
  redis.call('SET', P..'job:'..id, job)
  if key ~= '' then
    redis.call('SET', P..'key:'..key, id)
    redis.call('HSET', P..'state:'..id, 'key', key)
    if request ~= '' then redis.call('HSET', P..'state:'..id, 'request', request) end
  end
  redis.call('HSET', P..'state:'..id, 'takes', 0)
  redis.call('ZADD', P..'all', 0, id)
  if saved ~= '' then
    redis.call('LPUSH', P..'saved-runs:'..saved, id)
    redis.call('LTRIM', P..'saved-runs:'..saved, 0, RUNS_KEPT - 1)
  end
  enter(id, 'queued', queue, '', at ~= '' and at)
  return id
end
