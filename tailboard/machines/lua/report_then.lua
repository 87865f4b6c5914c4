-- Stores the success of a job as report.lua does, and submits the run that follows it: both or
-- neither.
--
-- KEYS[1]  prefix of all keys
-- ARGV[1...8]  as in report.lua
-- ARGV[9]  a line for the journal, if the run that follows this job cannot start because another
--          job has its key
-- ARGV[10] what the ID of that other job replaces in the line
-- ARGV[11...26]  the run that follows this job, as ARGV[1...16] of submit.lua. It is submitted if
--          the report is stored
--
-- Returns what report.lua returns.

local id, to, line, place = ARGV[1], ARGV[3], ARGV[9], ARGV[10]
local answer = report(unpack(ARGV, 1, 8))
if answer == to then
  local following = submit(unpack(ARGV, 11))
  if type(following) == 'table' then
    redis.call('APPEND', P..'job:'..id, (string.gsub(line, place, following[2], 1)))
  end
end
return answer
