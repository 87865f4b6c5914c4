-- Stores bytes of a job's file `times` or `usage`. Does nothing if the machine no longer has the
-- job.
--
-- KEYS[1]  prefix of all keys
-- ARGV[1]  ID of the job
-- ARGV[2]  token of the take
-- ARGV[3]  offset of the first byte in the file (0: replace the samples in Redis)
-- ARGV[4]  the bytes
-- ARGV[5]  name of the file
--
-- Returns nothing.

local id, token, offset, data, file = unpack(ARGV)
if fields(id, 'token')[1] == token then
  local key = P..file..':'..id
  if offset == '0' then redis.call('SET', key, data)
  elseif not try('SETRANGE', key, offset, data) then
    redis.call('UNLINK', key)
  end
  if file == 'usage' then  -- the last two samples, so that those of many jobs can be read at once
    local before = offset ~= '0' and fields(id, 'usage')[1] or ''
    redis.call('HSET', P..'state:'..id, 'usage', string.sub(before..data, -48))
  end
end
