-- Reads a part of a job's log.
--
-- KEYS[1]  prefix of all keys
-- ARGV[1]  ID of the job
-- ARGV[2]  offset of the first byte wanted
-- ARGV[3]  most bytes to return
--
-- Returns {offset, bytes}. The offset of the first byte is higher than ARGV[2] if Redis no longer
-- has the bytes from there. Stops before a hole.

local id, want, left = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local out, first, from = {}, nil, string.format('%.0f', want + 1)
while left > 0 do
  local entries = try('XRANGE', P..'log:'..id, from, '+', 'COUNT', 16) or {}
  if #entries == 0 then break end
  for _, entry in ipairs(entries) do
    local stop, data = tonumber(string.match(entry[1], '^%d+')), entry[2][2]
    local begin = stop - #data
    if first and begin > want then left = 0 break end
    if not first then want = math.max(want, begin); first = want end
    data = string.sub(data, want - begin + 1, want - begin + left)
    out[#out + 1] = data
    left, want, from = left - #data, want + #data, string.format('%.0f', stop + 1)
    if left <= 0 then break end
  end
end
if not first then
  first = math.max(want, number(fields(id, 'log_start')[1]))
end
return {string.format('%.0f', first), table.concat(out)}
