-- Where the replica stands, and whether it is for the caller to feed it: for a while, or for a while longer.
-- KEYS: standing, feeder; ARGV: name of the caller, how long in ms
local feeder = redis.call('GET', KEYS[2])
if not feeder or feeder == ARGV[1] then
    redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
    feeder = ARGV[1]
end
return {redis.call('GET', KEYS[1]), feeder == ARGV[1] and 1 or 0}
