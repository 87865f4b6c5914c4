-- Limits how many jobs of a queue can run at a time.
--
-- KEYS[1]  prefix of all keys
-- ARGV[1]  queue
-- ARGV[2]  the limit (JSON), as in the file queues/QUEUE.json ('': none)
--
-- Returns nothing.

redis.call('HDEL', P..'limits', ARGV[1])
if ARGV[2] ~= '' then redis.call('HSET', P..'limits', ARGV[1], ARGV[2]) end
announce('', 'limited')
