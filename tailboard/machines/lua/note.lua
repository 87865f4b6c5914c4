-- Stores bytes of a job's file `times`, the samples of its log's size. Does nothing if the machine
-- no longer has the job.
--
-- KEYS[1]  prefix of all keys
-- ARGV[1]  ID of the job
-- ARGV[2]  token of the take
-- ARGV[3]  offset of the first byte in the file (0: replace the samples in Redis)
-- ARGV[4]  the bytes
--
-- Returns nothing.

local id, token, offset, data = unpack(ARGV)
if fields(id, 'token')[1] == token then
  if offset == '0' then redis.call('SET', P..'times:'..id, data)
  elseif not try('SETRANGE', P..'times:'..id, offset, data) then
    redis.call('UNLINK', P..'times:'..id)
  end
end
