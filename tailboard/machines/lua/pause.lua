-- Pauses a queue: no more jobs are taken from it.
--
-- KEYS[1]  prefix of all keys
-- ARGV[1]  queue
-- ARGV[2]  the pause (JSON): why, by whom, since when
--
-- Returns nothing.

redis.call('HDEL', P..'paused', ARGV[1])
redis.call('HSET', P..'paused', ARGV[1], ARGV[2])
announce('', 'paused')
