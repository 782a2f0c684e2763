-- Requests of a file, separated by NUL, again and again: FILE.
local requests, next = {}, 0

function init(args)
  for one in io.open(args[1], "rb"):read("*a"):gmatch("[^%z]+") do requests[#requests + 1] = one end
end

function request()
  next = next % #requests + 1
  return requests[next]
end
