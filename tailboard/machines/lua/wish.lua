-- Asks the machine that runs a job to cancel it. The job then ends as cancelled, with the reason of
-- the first request.
--
-- KEYS[1]  prefix of all keys
-- ARGV[1]  ID of the job
-- ARGV[2]  reason
--
-- Returns 'running' if the request was accepted, 'damaged' if it is unknown which machine runs the
-- job, 'absent', or the status of a job that is not running.

local id, reason = unpack(ARGV)
local s = fields(id, 'status', 'token', 'cancel')
if s[1] == 'running' then
  if not spool_of(s[2]) then return 'damaged' end
  request_cancel(id, s[2], s[3] or reason)
  announce(id, s[1])
end
return s[1] or 'absent'
