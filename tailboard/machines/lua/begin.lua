-- Begins each of the scripts in this folder: the map of the keys, and the functions that the
-- scripts share. It is not a script of its own.
--
-- The loader, scripts.py, puts before each script those parts of this file that it uses. Blank
-- lines separate the parts. These constants of Python come first: RUNS_KEPT, the number of jobs
-- that are remembered for a saved command; SMALL_FILE, the largest size of a job's record and of
-- its journal, in bytes; MAX_LIMIT and DAMAGED_LIMIT, limits of a queue; FAILURE_WORDS, words for
-- each status.
--
-- KEYS[1]  prefix of all keys, `tailboard:`
--
-- Several machines share their jobs through Redis. The keys, without the prefix:
--
--   job:ID           a line of JSON, as in job.json, then the job's journal
--   state:ID         a hash: status, queue, token, takes, log_size, log_start, log_at, cancel, key,
--                    request (a hash of what was sent with the key), and not_before if the job is
--                    or was delayed. `key` is of the Idempotency-Key; `job_key` is the key of the
--                    job's options. urgent: "1" if the job was submitted so; lane: "1" or "0" if
--                    that was changed since; after: "STATUS ID ID" until the job has started;
--                    notify: "some" or "none" if the job has rules of its own, or an empty list;
--                    pings: "1" if its saved command has a ping URL, "started" after its start;
--                    files: bytes of files in files:ID, once all are there; usage: the last samples
--                    in usage:ID
--   log:ID           a stream: the entry E-0 holds the bytes that end at the offset E
--   times:ID         (time, size) samples of the log, as in the file `times`
--   usage:ID         samples of what the job's processes used, as in the file `usage`
--   files:ID         a hash: the files of an ended job, see file_pack.py: the chunks, by number,
--                    listing, version; next: the number of the next chunk, until all are there
--   reading:ID       number of readers of this log and these files; expires after a minute
--   key:HASH         the job that was submitted with an Idempotency-Key
--   all, status:S    sorted sets of IDs
--   queue:Q          a sorted set of queued jobs; the score is -1 for urgent ones, else 0
--   queues           the set of queue names
--   newer:Q          a sorted set of queued jobs whose record has a newer version, which is the
--                    score; they wait for a machine that knows this version
--   delayed:Q        a sorted set of queued jobs that may not start yet; the score is the earliest
--                    start, in seconds since 1970. `take` moves due jobs to queue:Q
--   waiting:Q        a sorted set of queued jobs that wait for others; the score is the time, in
--                    seconds since 1970, at which `take` looks at them again in any case
--   waiters:ID       a sorted set of the jobs in waiting:Q that wait for the end of this job
--   key-waiters:Q:KEY
--                    a sorted set of the jobs in waiting:Q that wait until no job with the key runs
--   keyed:KEY        a sorted set of the queued and running jobs with the key
--   replacing        a hash: for each key the last job that replaces older jobs with the key
--   unstartable      a sorted set of queued jobs that wait for one that has not succeeded; `beat`
--                    cancels them, even if no machine has a free slot
--   awaiting         a hash; its field `submitted` counts the jobs that were submitted and wait for
--                    others. If it has changed, retention looks again before it deletes a job
--   waking           a sorted set of ended jobs for which too many jobs wait for one call; `take`
--                    and `beat` wake the rest
--   limits           a hash: the limits of queues, each as in the file queues/QUEUE.json
--   paused           a hash: the paused queues, each with its pause
--   taken:SPOOL, runs:SPOOL
--                    sorted sets of a machine's jobs: taken and not confirmed yet; running
--   wishes:SPOOL, gone:SPOOL
--                    a machine's orders: jobs to cancel, each with the reason; jobs to delete
--   heard            a sorted set of spools; the score is the time of the last report
--   machines         a hash: the workers of each spool
--   roots            a hash: the path of each spool's folder on its machine
--   keep-limits      the limits of the last pass of retention, as JSON, see KeepLimits
--   restoring        a sorted set of the machines that are restoring what an older state of Redis
--                    lacks; the score is the time when that began. Meanwhile no jobs are taken
--   rolled-back      when Redis was last found to have returned to an older state
--   instances        a hash: for each spool "INSTANCE N SINCE AT", that is its relay, the number
--                    of the last report, when the relay began to report, and the time of the last
--                    report. If two relays report at the same time, they use copies of one spool
--   changes          a stream of status changes; it wakes all waiting clients
--   deleted          a hash: the number of deleted jobs of each status
--   audit            a stream: the audit log; each entry has one field, a line of JSON
--   audit-from       the oldest ID in it that is kept, in milliseconds since 1970
--   epoch            a random word, which is lost if Redis is emptied
--   session:HASH     a person who stays signed in, by the hash of the session key; expires
--   sessions         a sorted set of these hashes; the score is the time at which each expires
--   sessions:NAME    the same of one named token
--   saved, schedules hashes by name: saved commands; which of their times are done
--   saved-runs:NAME  a list of the last jobs of a saved command, the newest first
--   requests         a sorted set of "ID KIND": requests that the sender looks at a job, see
--                    notices.py; the score is the time, in seconds since 1970, before which it need
--                    not
--   request-texts    a hash: the texts of those requests that have one
--   notices:ID       the record of what was noticed about a job: JSON
--   noticed          a sorted set of the jobs with a record; the score is the time of the last change
--   sender           the process that sends, by a random name; expires
--   notify-default   exists if TAILBOARD_NOTIFY has rules
--   notify-urls      a hash: the URLs that rules name
--
-- A machine claims a job in two steps: `take` gives the job to its spool, and `report` confirms
-- that the job is stored there. The token SPOOL:N of a take fences. N grows with each take and with
-- each transition that happens without the machine, whose old token then no longer matches.
-- "behind" is something else: Redis has lost what it knew (restart, FLUSHALL), and the spool, whose
-- folder is the truth, restores its job.
--
-- A job that waits for others is in waiting:Q, so that `take` does not look at it each time. It is
-- moved back to queue:Q if another job ends or is deleted, or if a job with its key no longer runs.
-- Then `take` decides anew, so a job that was moved in vain does no harm. Nor does a damaged index,
-- because `take` looks again at jobs that have waited for a minute.
--
-- If Redis is full (maxmemory), a script may still write if its first write frees or removes
-- something. So jobs can be cancelled, end and be deleted, and machines can report, while a submit
-- is refused.

local P = KEYS[1]

-- Bounds of the work in one call: jobs that are woken, that `take` looks at, and at which it looks
-- again without an event; and the seconds until it does so.
local WOKEN_AT_ONCE, SEEN_AT_ONCE, RECHECKED_AT_ONCE, RECHECK_INTERVAL = 1000, 200, 5, 60

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

-- Why a spool may not change a job: -1 if it is fenced; -2 if Redis does not have the job, or is
-- behind; nil if it may.
local function refusal(id, token)
  local s = fields(id, 'status', 'token', 'takes')
  local compared = s[1] and compare(token, s[1], s[2], s[3]) or 'behind'
  if compared ~= 'same' then return compared == 'fenced' and -1 or -2 end
end

-- The time of Redis, in seconds since 1970.
local function clock()
  local now = redis.call('TIME')
  return now[1] + now[2] / 1000000
end

-- Adds an entry to a sorted set that belongs to one job or key, even if the set is damaged.
local function add_to(set, score, entry)
  if not try('ZADD', set, score, entry) then
    redis.call('UNLINK', set)
    redis.call('ZADD', set, score, entry)
  end
end

local function place_in_queue(id)
  local s = fields(id, 'lane', 'urgent')
  return (s[1] or s[2]) == '1' and -1 or 0
end

-- Adds a queued job to the jobs of its queue that `take` looks at.
local function list(queue, id) redis.call('ZADD', P..'queue:'..queue, place_in_queue(id), id) end

-- Sets aside a queued job that waits for others.
local function park(queue, id)
  redis.call('ZREM', P..'queue:'..queue, id)
  redis.call('ZADD', P..'waiting:'..queue, clock() + RECHECK_INTERVAL, id)
end

-- Lets `take` look again at a job that waits for others. Returns false if it does not.
local function unpark(id)
  local queue = fields(id, 'queue')[1] or 'default'
  if redis.call('ZREM', P..'waiting:'..queue, id) == 0 then return false end
  list(queue, id)
  return true
end

-- Wakes jobs that wait for the end of a job. Returns whether more of them may remain.
local function wake_waiters(id)
  local waiters = P..'waiters:'..id
  local found = try('ZRANGE', waiters, 0, WOKEN_AT_ONCE - 1) or {}
  local has_failed = #found > 0 and fields(id, 'status')[1] ~= 'succeeded'
  for _, waiter in ipairs(found) do
    redis.call('ZREM', waiters, waiter)
    if unpark(waiter) and has_failed then redis.call('ZADD', P..'unstartable', 0, waiter) end
  end
  return #found == WOKEN_AT_ONCE
end

local function wake_all_waiters(id)
  if wake_waiters(id) then redis.call('ZADD', P..'waking', 0, id) end
end

-- Continues to wake jobs for which one call was not enough. Returns whether more may remain.
local function wake_more()
  local id = redis.call('ZRANGE', P..'waking', 0, 0)[1]
  if not id then return false end
  if not wake_waiters(id) then redis.call('ZREM', P..'waking', id) end
  return redis.call('ZCARD', P..'waking') > 0
end

-- Wakes the first job of each queue that waits for a key. One is not enough: its queue may be
-- paused.
local function wake_key(key)
  for _, queue in ipairs(redis.call('SMEMBERS', P..'queues')) do
    local waiters = P..'key-waiters:'..queue..':'..key
    repeat
      local first = (try('ZRANGE', waiters, 0, 0) or {})[1]
      if first then redis.call('ZREM', waiters, first) end
    until not first or unpark(first)
  end
end

-- Removes a job from the sorted sets in which its status, queue and token put it. If the status is
-- damaged, removes it from those of every status. `to`: the status that it gets, if any.
local function leave(id, s, queue, token, to)
  for _, status in ipairs(is_status(s) and {s} or STATUSES) do
    redis.call('ZREM', P..'status:'..status, id)
  end
  queue = queue or 'default'
  if s ~= 'running' then
    redis.call('ZREM', P..'queue:'..queue, id)
    redis.call('ZREM', P..'waiting:'..queue, id)
    redis.call('ZREM', P..'delayed:'..queue, id)
    redis.call('ZREM', P..'newer:'..queue, id)
  end
  local spool = spool_of(token)
  if spool then
    redis.call('ZREM', P..'taken:'..spool, id)
    redis.call('ZREM', P..'runs:'..spool, id)
    if to ~= 'running' then redis.call('HDEL', P..'wishes:'..spool, id) end
  end
  local key = to ~= 'running' and fields(id, 'job_key')[1]
  if key then wake_key(key) end
end

-- Asks the machine of a token to cancel this job, even if the machine has not reported the start
-- yet, and even if it was asked before: it may have answered before it had the job.
local function request_cancel(id, token, reason)
  local wishes = P..'wishes:'..spool_of(token)
  redis.call('HDEL', wishes, id)  -- first, so that a full Redis lets this script write
  redis.call('HSET', P..'state:'..id, 'cancel', reason)
  redis.call('HSET', wishes, id, reason)
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

-- Wakes what waits for a job that has ended or is deleted.
local function finish(id)
  redis.call('HDEL', P..'state:'..id, 'params')
  local key = fields(id, 'job_key')[1]
  if key then
    try('ZREM', P..'keyed:'..key, id)
    local replacing = P..'replacing'
    if redis.call('HGET', replacing, key) == id then redis.call('HDEL', replacing, key) end
  end
  wake_all_waiters(id)
end

-- Stores whether anyone is to be notified about a job: the fields `notify` and `pings`.
local function set_notify(id, notify, pings)
  if notify ~= '' then redis.call('HSET', P..'state:'..id, 'notify', notify) end
  if pings ~= '' then redis.call('HSET', P..'state:'..id, 'pings', pings) end
end

-- Makes the request that the sender looks at a job, if anyone is to be notified about it. `at`: not
-- before this time, in seconds since 1970; `text`: a line for the notice.
local function request_notice(id, kind, at, text)
  local s = fields(id, 'notify', 'pings')
  local has_rules = s[1] == 'some'
  if not s[1] then has_rules = redis.call('EXISTS', P..'notify-default') == 1 end
  if not has_rules and not s[2] then return end
  local request = id..' '..kind
  redis.call('HDEL', P..'request-texts', request)
  redis.call('ZADD', P..'requests', at, request)
  if text ~= '' then redis.call('HSET', P..'request-texts', request, text) end
end

-- Gives a job a status and adds it to the sorted sets of that status. `at`: the earliest start of a
-- queued job, in seconds since 1970, or nil. `from`: the status that it had, if that is known.
local function enter(id, s, queue, token, at, from)
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
      list(queue, id)
    end
  elseif s == 'running' then
    redis.call('HDEL', P..'state:'..id, 'lane', 'after')
    redis.call('ZADD', P..'runs:'..spool_of(token), 0, id)
  else
    finish(id)
    if s ~= from then request_notice(id, 'end', 0, '') end
  end
  announce(id, s)
end

-- Moves a job without the machine that has it. The job gets a new token number, which fences that
-- machine. `line` is for its journal; `at` as in `enter`.
local function override(id, from, to, queue, token, line, at)
  leave(id, from, queue, token)
  if line ~= '' then redis.call('SET', P..'job:'..id, (record(id) or '')..line) end
  next_take(id)
  redis.call('UNLINK', P..'files:'..id)  -- its machine was sending them, or the end got lost
  redis.call('HDEL', P..'state:'..id, 'cancel', 'files')
  enter(id, to, queue, '', at)
end

-- Cancels a queued job. `at`: the time, as in its journal.
local function cancel_queued(id, reason, at)
  local s = fields(id, 'queue', 'token')
  local ended = '{"status": "cancelled", "reason": %s, "finished_at": "%s"}'
  local line = '\n{"ended": '..string.format(ended, cjson.encode(reason), at)..'}\n'
  override(id, 'queued', 'cancelled', s[1], s[2], line)
end

-- Stores the status and the journal of a job, see report.lua. Returns `to` if it was stored.
local function report(id, token, to, journal, size, confirms, delay, drops_params)
  local s = fields(id, 'status', 'queue', 'token', 'takes', 'log_size', 'cancel', 'pings')
  if not is_status(s[1]) then return 'absent' end
  local compared, job = compare(token, s[1], s[3], s[4]), record(id)
  if compared ~= 'same' then return compared end
  if not job then return 'behind' end
  if s[1] ~= to and s[1] ~= 'queued' and s[1] ~= 'running' then return s[1] end
  if s[6] and to ~= 'cancelled' and (to ~= 'running' or confirms == '1') then return 'cancel' end
  if confirms == '1' and s[1] == 'queued' and is_paused(s[2]) then return 'paused' end
  if tonumber(size) > number(s[5]) then return 'log' end
  if drops_params == '1' then redis.call('HDEL', P..'state:'..id, 'params') end
  leave(id, s[1], s[2], token, to)
  if size == '0' and not s[5] then redis.call('HSET', P..'state:'..id, 'log_size', 0) end
  redis.call('SET', P..'job:'..id, string.match(job, '^[^\n]*\n')..journal)
  if s[7] == '1' and string.find(journal, '"claimed"', 1, true) then
    set_notify(id, '', 'started')
    request_notice(id, 'start', 0, '')
  end
  if to == 'queued' then
    next_take(id)
    token = ''
  end
  enter(id, to, s[2], token, after(delay), s[1])
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

-- The status of a job, as the API shows it; nil if there is no such job.
local function status_of(id)
  local status = fields(id, 'status')[1]
  if is_status(status) then return status end
  if redis.call('EXISTS', P..'job:'..id, P..'state:'..id) > 0 then return 'lost' end
end

-- What has become of the jobs that a job waits for: a list of those that have not ended, and why
-- the job can never start, if so. The same as `look_at_parents` in order.py.
local function look_at_parents(id)
  local open, wanted = {}, nil
  for word in string.gmatch(fields(id, 'after')[1] or '', '%S+') do
    local status = wanted and status_of(word)
    if not wanted then wanted = word
    elseif status == 'queued' or status == 'running' then open[#open + 1] = word
    elseif wanted == 'succeeded' and status ~= wanted then
      return open, word..' '..(status and FAILURE_WORDS[status] or 'was deleted')
    end
  end
  return open
end

-- Cancels queued jobs that can never start. `at`: the time, as in a journal.
local function cancel_unstartable(at)
  for _ = 1, SEEN_AT_ONCE do
    local id = redis.call('ZRANGE', P..'unstartable', 0, 0)[1]
    if not id then return end
    redis.call('ZREM', P..'unstartable', id)
    local s = fields(id, 'status', 'token')
    local _, failure = look_at_parents(id)
    if failure and s[1] == 'queued' and not spool_of(s[2]) then cancel_queued(id, failure, at) end
  end
end

-- Sets aside a queued job until one of these jobs has ended.
local function wait_for_parents(queue, id, open)
  park(queue, id)
  for _, parent in ipairs(open) do add_to(P..'waiters:'..parent, 0, id) end
end

-- Sets aside a queued job until no job with its key runs.
local function wait_for_key(queue, id, key)
  park(queue, id)
  add_to(P..'key-waiters:'..queue..':'..key, place_in_queue(id), id)
end

-- The jobs that count towards limits and keys, each as {id, queue, key}; '' if it has no key.
-- `own`: a spool.
local function list_running(own)
  local found, seen = {}, {}
  local function add(set)
    for _, id in ipairs(redis.call('ZRANGE', set, 0, -1)) do
      local s = fields(id, 'status', 'queue', 'token', 'job_key')
      if s[1] == 'running' or (s[1] == 'queued' and spool_of(s[3])) then
        if not seen[id] then found[#found + 1] = {id, s[2] or 'default', s[4] or ''} end
        seen[id] = true
      end
    end
  end
  add(P..'status:running')
  local spools = {[own] = true}
  for _, spool in ipairs(redis.call('ZRANGE', P..'heard', 0, -1)) do spools[spool] = true end
  local instances = redis.call('HGETALL', P..'instances')
  for place = 1, #instances, 2 do spools[instances[place]] = true end
  for spool in pairs(spools) do add(P..'taken:'..spool) end
  return found
end

-- Does a text "STATUS ID ID" name this job?
local function names(parents, id) return string.find(parents, id, 1, true) end

-- Another queued or running job with a key, one that runs if there is one; nil if there is none.
-- Running ones of a text "STATUS ID ID" do not count.
local function job_with_key(key, parents)
  for _, job in ipairs(list_running('')) do
    if job[3] == key and not names(parents, job[1]) then return job[1] end
  end
  for _, id in ipairs(try('ZRANGE', P..'keyed:'..key, 0, -1) or {}) do
    local s = fields(id, 'status', 'token')
    if s[1] == 'queued' and not spool_of(s[2]) then return id end
  end
end

local function replaced_by(id) return 'replaced by '..id end

-- Cancels the other queued jobs with the key of a new one and, if `runs_too`, also the running
-- ones, except those of a text "STATUS ID ID".
local function replace_others(id, key, runs_too, parents, at)
  redis.call('HSET', P..'replacing', key, id)
  for _, other in ipairs(redis.call('ZRANGE', P..'keyed:'..key, 0, -1)) do
    local s = fields(other, 'status', 'token', 'cancel')
    local spool = spool_of(s[2])
    if other == id or (spool and names(parents, other)) then
      -- it is not in the way
    elseif s[1] == 'queued' then
      cancel_queued(other, replaced_by(id), at)
    elseif s[1] == 'running' and runs_too and spool then
      request_cancel(other, s[2], s[3] or replaced_by(id))
      announce(other, s[1])
    end
  end
end

-- The first job of a text "STATUS ID ID" that does not exist, or nil.
local function find_missing(parents)
  for id in string.gmatch(string.match(parents, ' .*') or '', '%S+') do
    if not status_of(id) then return id end
  end
end

-- Stores what a job is ordered by.
local function set_order(id, key, urgent, parents)
  local state = P..'state:'..id
  if key ~= '' then
    redis.call('HSET', state, 'job_key', key)
    add_to(P..'keyed:'..key, 0, id)
  end
  if urgent == '1' then redis.call('HSET', state, 'urgent', urgent) end
  if parents ~= '' then
    redis.call('HSET', state, 'after', parents)
    redis.call('HINCRBY', P..'awaiting', 'submitted', 1)
  end
end

-- See submit.lua.
local function submit(
  id, queue, job, key, saved, at, request, job_key, if_busy, urgent, parents, now, notify, pings, wait,
  params
)
  if key ~= '' then
    local known = try('GET', P..'key:'..key)
    if known and redis.call('EXISTS', P..'state:'..known) == 1 then return known end
  end
  if redis.call('EXISTS', P..'state:'..id) == 1 then return id end
  local missing = find_missing(parents)
  if missing then return {'absent', missing} end
  local other = if_busy == 'skip' and job_with_key(job_key, parents)
  if other then return {'busy', other} end
  redis.call('SET', P..'job:'..id, job)
  if key ~= '' then
    redis.call('SET', P..'key:'..key, id)
    redis.call('HSET', P..'state:'..id, 'key', key)
    if request ~= '' then redis.call('HSET', P..'state:'..id, 'request', request) end
  end
  redis.call('HSET', P..'state:'..id, 'takes', 0)
  if params ~= '' then redis.call('HSET', P..'state:'..id, 'params', params) end
  redis.call('ZADD', P..'all', 0, id)
  if saved ~= '' then
    redis.call('LPUSH', P..'saved-runs:'..saved, id)
    redis.call('LTRIM', P..'saved-runs:'..saved, 0, RUNS_KEPT - 1)
  end
  set_order(id, job_key, urgent, parents)
  set_notify(id, notify, pings)
  if wait ~= '' then request_notice(id, 'wait', wait, '') end
  enter(id, 'queued', queue, '', at ~= '' and at)
  if parents ~= '' and at == '' then
    local open, failure = look_at_parents(id)
    if #open > 0 and not failure then wait_for_parents(queue, id, open) end
  end
  if if_busy == 'latest' or if_busy == 'replace' then
    replace_others(id, job_key, if_busy == 'replace', parents, now)
  end
  return id
end
