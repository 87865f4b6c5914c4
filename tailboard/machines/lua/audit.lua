-- Appends a line to the audit log, and removes those that are too old.
--
-- KEYS[1]  prefix of all keys
-- ARGV[1]  the line: JSON
--
-- Returns nothing.

local oldest = number(try('GET', P..'audit-from'))
if oldest >= 1e15 then oldest = 0 end  -- it is damaged
redis.call('XADD', P..'audit', 'MINID', string.format('%d', oldest), '*', 'line', ARGV[1])
