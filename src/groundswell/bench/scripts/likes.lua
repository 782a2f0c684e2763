-- Likes that nobody has made before, of one target or spread over many: TARGETS FIRST.
local targets, user

function init(args)
  targets, user = tonumber(args[1]), tonumber(args[2])
  math.randomseed(user)
end

function request()
  user = user + 1
  return wrk.format("PUT", string.format("/v1/edges/like/%d/%d", math.random(targets), user))
end
