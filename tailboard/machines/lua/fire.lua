-- Records that a scheduled time of a saved command is done and, if it is to run, submits its job.
--
-- KEYS[1]  prefix of all keys
-- ARGV[1]  name of the saved command
-- ARGV[2]  its record (JSON) as the caller read it
-- ARGV[3]  its schedule as the caller read it ('': none)
-- ARGV[4]  its new schedule
-- ARGV[5...16]  the job, as ARGV[1...12] of submit.lua; omitted if there is no job to submit
--
-- Returns the ID of the job, '' if there is no job to submit, and false if the record or the
-- schedule has changed. If submit.lua would return a list, returns that and changes nothing.

local name, saved, seen, schedule = unpack(ARGV)
if redis.call('HGET', P..'saved', name) ~= saved then return false end
if (redis.call('HGET', P..'schedules', name) or '') ~= seen then return false end
local id = ''
if #ARGV > 4 then id = submit(unpack(ARGV, 5)) end
if type(id) == 'table' then return id end
redis.call('HSET', P..'schedules', name, schedule)
return id
