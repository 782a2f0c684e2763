-- A part of the next rollup of one bucket: all changes in one call, or several with `last` on the final one.
-- KEYS: mark, cells (one per payload), counts (one per number), what is to be dropped
-- ARGV: epoch, rollup, revision, last ('1' or '0'), number of payloads, number of counts, payloads, counts
-- Returns the mark. Does nothing but that where the bucket does not stand right before this rollup.
local mark = redis.call('GET', KEYS[1])
if not mark then return false end
local epoch, gen, at, _, revision = string.match(mark, '^(%d+) (%S+) (%d+) (%d) (%S+)$')
if epoch ~= ARGV[1] or tonumber(at) ~= tonumber(ARGV[2]) - 1 then return mark end
local cells, counts = tonumber(ARGV[5]), tonumber(ARGV[6])
local set, drop = {}, {}
for i = 1, cells do
    set[#set + 1] = KEYS[1 + i]
    set[#set + 1] = gen .. ' ' .. ARGV[2] .. ' ' .. ARGV[6 + i]
end
for i = 1, counts do
    set[#set + 1] = KEYS[1 + cells + i]
    set[#set + 1] = ARGV[6 + cells + i]
end
for i = 2 + cells + counts, #KEYS do drop[#drop + 1] = KEYS[i] end
if #set > 0 then redis.call('MSET', unpack(set)) end
if #drop > 0 then redis.call('UNLINK', unpack(drop)) end
if ARGV[4] == '1' then
    mark = table.concat({epoch, gen, ARGV[2], '0', ARGV[3]}, ' ')
else
    -- From here on the cells are of no single rollup: nothing may be filled in before the last part.
    mark = table.concat({epoch, gen, at, '1', revision}, ' ')
end
redis.call('SET', KEYS[1], mark)
return mark
