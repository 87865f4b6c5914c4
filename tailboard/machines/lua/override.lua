-- Moves a job without the machine that has it. The job gets a new token number, which fences that
-- machine.
--
-- KEYS[1]  prefix of all keys
-- ARGV[1]  ID of the job
-- ARGV[2]  status that the job must have
-- ARGV[3]  token that the job must have ('*': any)
-- ARGV[4]  new status
-- ARGV[5]  line for its journal ('': none)
-- ARGV[6]  seconds until a job that is queued again may start (0: at once)
-- ARGV[7]  reason of the cancel request that the caller has seen ('': no request)
--
-- Returns 'done', or, if it changed nothing: 'absent', 'cancel' if there is another cancel request,
-- or the status that the job has.

local id, from, token, to, line, delay, seen = unpack(ARGV)
local s = fields(id, 'status', 'queue', 'token', 'cancel')
if not s[1] then return 'absent' end
if s[1] ~= from or (token ~= '*' and token ~= s[3]) then return s[1] end
if (s[4] or '') ~= seen then return 'cancel' end
override(id, from, to, s[2], s[3], line, after(delay))
return 'done'
