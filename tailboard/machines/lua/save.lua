-- Stores a saved command, unless a worker has changed its schedule in the meantime, or somebody the
-- command that it replaces.
--
-- KEYS[1]  prefix of all keys
-- ARGV[1]  name of the saved command
-- ARGV[2]  its record (JSON)
-- ARGV[3]  its schedule as the caller read it ('': none)
-- ARGV[4]  its new schedule ('': leave it as it is)
-- ARGV[5]  the record to replace, as the caller read it ('': none, '*': any)
--
-- Returns 1 if the name is new, 0 if the command replaced another one, and false if the schedule or
-- the record to replace has changed.

local name, saved, seen, schedule, replaced = unpack(ARGV)
if (redis.call('HGET', P..'schedules', name) or '') ~= seen then return false end
if replaced ~= '*' and (redis.call('HGET', P..'saved', name) or '') ~= replaced then return false end
if schedule ~= '' then redis.call('HSET', P..'schedules', name, schedule) end
return redis.call('HSET', P..'saved', name, saved)
