-- Say where all buckets stand, or beyond. Never goes back, but from the standing that may be replaced whatever it says.
-- KEYS: standing; ARGV: epoch, rollup, revision, that standing. Returns the standing.
local standing = redis.call('GET', KEYS[1])
if standing and standing ~= ARGV[4] then
    local epoch, rollup = string.match(standing, '^(%d+) (%d+) ')
    epoch, rollup = tonumber(epoch), tonumber(rollup)
    if epoch > tonumber(ARGV[1]) or (epoch == tonumber(ARGV[1]) and rollup >= tonumber(ARGV[2])) then
        return standing
    end
end
standing = table.concat({ARGV[1], ARGV[2], ARGV[3]}, ' ')
redis.call('SET', KEYS[1], standing)
return standing
