-- Removes an entry that is not an ID from the sorted sets of jobs.
--
-- KEYS[1]  prefix of all keys
-- ARGV[1]  spool of the machine that found the entry
-- ARGV[2]  the entry
--
-- Returns nothing.

local spool, id = ARGV[1], ARGV[2]
redis.call('ZREM', P..'taken:'..spool, id)
redis.call('ZREM', P..'runs:'..spool, id)
local s = fields(id, 'status', 'queue', 'token')
leave(id, s[1], s[2], s[3])
redis.call('ZREM', P..'all', id)
