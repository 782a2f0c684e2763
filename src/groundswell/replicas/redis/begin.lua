-- Let a bucket begin anew at a rollup: a new generation, of which no cell is there yet.
-- KEYS: mark; ARGV: epoch, rollup, revision, new generation, the mark that may be replaced whatever it says
-- Returns the mark. Else only an older one is replaced.
local mark = redis.call('GET', KEYS[1])
if mark and mark ~= ARGV[5] then
    local epoch, _, at = string.match(mark, '^(%d+) (%S+) (%d+) ')
    epoch, at = tonumber(epoch), tonumber(at)
    if epoch > tonumber(ARGV[1]) or (epoch == tonumber(ARGV[1]) and at >= tonumber(ARGV[2])) then
        return mark
    end
end
mark = table.concat({ARGV[1], ARGV[4], ARGV[2], '0', ARGV[3]}, ' ')
redis.call('SET', KEYS[1], mark)
return mark
