-- Drop keys whose cell is not of the bucket's generation.
-- KEYS: mark, then pairs of a cell and the key that goes with it
local mark = redis.call('GET', KEYS[1])
if not mark then return 0 end
local gen = string.match(mark, '^%d+ (%S+) ') .. ' '
local drop = {}
for i = 2, #KEYS, 2 do
    local cell = redis.call('GET', KEYS[i])
    if not cell or string.sub(cell, 1, #gen) ~= gen then drop[#drop + 1] = KEYS[i + 1] end
end
if #drop > 0 then redis.call('UNLINK', unpack(drop)) end
return #drop
