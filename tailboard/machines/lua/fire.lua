-- Records that a scheduled time of a saved command is done and, if it is to run, submits its job.
--
-- KEYS[1]  prefix of all keys
-- ARGV[1]  name of the saved command
-- ARGV[2]  its record (JSON) as the caller read it
-- ARGV[3]  its schedule as the caller read it ('': none)
-- ARGV[4]  its new schedule
-- ARGV[5]  a line about missed or skipped runs, of which people are to be notified ('': none)
-- ARGV[6]  ID of the job that it is about, if there is no job to submit
-- ARGV[7...22]  the job, as ARGV[1...16] of submit.lua; omitted if there is no job to submit
--
-- Returns the ID of the job, '' if there is no job to submit, and false if the record or the
-- schedule has changed. If submit.lua would return a list, returns that and changes nothing.

local name, saved, seen, schedule, notice, active = unpack(ARGV)
if redis.call('HGET', P..'saved', name) ~= saved then return false end
if (redis.call('HGET', P..'schedules', name) or '') ~= seen then return false end
local id = ''
if #ARGV > 6 then id = submit(unpack(ARGV, 7)) end
if type(id) == 'table' then return id end
if notice ~= '' then request_notice(id ~= '' and id or active, 'missed', 0, notice) end
redis.call('HSET', P..'schedules', name, schedule)
return id
