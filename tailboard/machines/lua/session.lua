-- Stores a session. Removes those that have expired, and the oldest if there are too many.
--
-- KEYS[1]  prefix of all keys
-- ARGV[1]  SHA-256 of the session's key
-- ARGV[2]  session: a line of JSON
-- ARGV[3]  seconds until it expires
-- ARGV[4]  when it expires, in seconds since 1970
-- ARGV[5]  the time now, by the same clock
-- ARGV[6]  number of sessions at most
-- ARGV[7]  name of the session's token; empty for the shared token
-- ARGV[8]  number of sessions of one name at most
--
-- Returns nothing.

local all = P..'sessions'

local function add(set, most)
  redis.call('ZADD', set, ARGV[4], ARGV[1])
  for _, old in ipairs(redis.call('ZRANGE', set, '-inf', ARGV[5], 'BYSCORE')) do
    redis.call('ZREM', set, old)
  end
  local too_many = redis.call('ZCARD', set) - most
  if too_many > 0 then
    for _, old in ipairs(redis.call('ZRANGE', set, 0, too_many - 1)) do
      redis.call('DEL', P..'session:'..old)
      redis.call('ZREM', set, old)
      redis.call('ZREM', all, old)
    end
  end
end

redis.call('SET', P..'session:'..ARGV[1], ARGV[2], 'EX', ARGV[3])
add(all, ARGV[6])
if ARGV[7] ~= '' then
  local own = all..':'..ARGV[7]
  add(own, ARGV[8])
  redis.call('EXPIRE', own, ARGV[3])
end
