-- Resumes a paused queue.
--
-- KEYS[1]  prefix of all keys
-- ARGV[1]  queue
--
-- Returns nothing.

if redis.call('HDEL', P..'paused', ARGV[1]) == 1 then announce('', 'resumed') end
