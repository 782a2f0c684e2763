-- Let somebody else feed it. KEYS: feeder; ARGV: name of the caller
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
