-- Appends bytes to the log of a job and removes the oldest bytes above a limit.
--
-- KEYS[1]  prefix of all keys
-- ARGV[1]  ID of the job
-- ARGV[2]  token of the take
-- ARGV[3]  offset of the first byte sent
-- ARGV[4]  the bytes
-- ARGV[5]  bytes of the log to keep
-- ARGV[6]  how: 'join' (the bytes follow those in Redis), 'gap' (the bytes before ARGV[3] no longer
--          exist, so the log in Redis begins there) or 'anew' (replace the log in Redis)
-- ARGV[7]  time of the last change of the log, in seconds since 1970
--
-- Returns the offset from which the spool must continue, whether the bytes were stored or not; -1
-- if the spool is fenced; -2 if Redis does not have the job, or is behind.

local id, token, start, data, keep, how, at = unpack(ARGV)
local s = fields(id, 'token', 'takes', 'log_size', 'log_start', 'status')
if not s[5] then return -2 end
local compared = compare(token, s[5], s[1], s[2])
if compared ~= 'same' then return compared == 'fenced' and -1 or -2 end
local key, state = P..'log:'..id, P..'state:'..id
if how == 'anew' then
  redis.call('UNLINK', key)
  redis.call('HDEL', state, 'log_size', 'log_start')
  s[3], s[4], how = nil, nil, 'gap'
end
local have, begin = number(s[3]), tonumber(start)
if begin ~= have and not (how == 'gap' and begin > have) then return have end
if begin > have then  -- a hole in the log would end each download there
  redis.call('UNLINK', key)
  redis.call('HSET', state, 'log_start', string.format('%.0f', begin))
end
local size = begin + #data
if #data > 0 then
  local floor = math.max(0, size - tonumber(keep))
  local first = string.format('%.0f', floor)
  local entry = {'MINID', '=', first, string.format('%.0f-0', size), 'd', data}
  local added = redis.pcall('XADD', key, unpack(entry))
  if type(added) == 'table' and added.err then
    local is_ours = not string.find(added.err, 'WRONGTYPE', 1, true)
    if is_ours and not string.find(added.err, 'equal or smaller', 1, true) then
      redis.call('XADD', key, unpack(entry))  -- raises the error
    end
    redis.call('UNLINK', key)  -- it is damaged: the spool sends the log again
    redis.call('HDEL', state, 'log_size', 'log_start')
    return 0
  end
  if floor > number(s[4]) then
    local entry = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
    local kept = tonumber(string.match(entry[1], '^%d+')) - #entry[2][2]
    redis.call('HSET', state, 'log_start', string.format('%.0f', kept))
  end
end
redis.call('HSET', state, 'log_size', string.format('%.0f', size), 'log_at', at)
return size
