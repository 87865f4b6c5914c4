-- Puts back a taken job whose record has a newer version than its machine knows. The job waits for
-- a machine that knows this version. Does nothing if the machine no longer has the job.
--
-- KEYS[1]  prefix of all keys
-- ARGV[1]  ID of the job
-- ARGV[2]  token of the take
-- ARGV[3]  version of the record
--
-- Returns nothing.

local id, token, version = unpack(ARGV)
local s = fields(id, 'status', 'queue', 'token')
if s[1] ~= 'queued' or s[3] ~= token then return end
leave(id, s[1], s[2], token)
next_take(id)
enter(id, 'queued', s[2], '')
redis.call('ZREM', P..'queue:'..s[2], id)
redis.call('ZADD', P..'newer:'..s[2], version, id)
