-- Makes a process the sender, or lets it remain the sender, or stop.
--
-- KEYS[1]  prefix of all keys
-- ARGV[1]  random name of the process
-- ARGV[2]  milliseconds after which another process can succeed (0: it stops)
-- ARGV[3]  1 if its TAILBOARD_NOTIFY has rules, else 0 ('': unknown); Redis may have lost that
--
-- Returns 1 if the process is the sender, else 0.

local name, period, default = unpack(ARGV)
local sender = redis.call('GET', P..'sender')
if sender and sender ~= name then return 0 end
if period == '0' then
  redis.call('DEL', P..'sender')
  return 0
end
redis.call('SET', P..'sender', name, 'PX', period)
if default == '1' then redis.call('SETNX', P..'notify-default', '1') end
if default == '0' then redis.call('DEL', P..'notify-default') end
return 1
