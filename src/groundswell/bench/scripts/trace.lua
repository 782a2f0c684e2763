-- Requests of a file, each once, then ends: FILE DUE. DUE, where there is one, names a file of the
-- milliseconds after the begin at which each is due; without it they follow as fast as they can.
local ffi = require("ffi")
ffi.cdef [[
  typedef struct { long s; long ns; } moment;
  int clock_gettime(int clock, moment *now);
]]
local requests, due = {}, {}
local answered, made, waited = 0, -1, 0
local nothing = "" -- a connection that sends it waits for ever
local at, began = ffi.new("moment"), nil

local function now_ms()
  ffi.C.clock_gettime(1, at)
  return tonumber(at.s) * 1000 + tonumber(at.ns) / 1e6
end

local function wait()
  began = began or now_ms()
  waited = waited + 1
  if waited > #requests then return 20 end
  return math.max(0, math.floor(began + due[waited] - now_ms()))
end

function init(args)
  for one in io.open(args[1], "rb"):read("*a"):gmatch("[^%z]+") do requests[#requests + 1] = one end
  if args[2] then
    for line in io.lines(args[2]) do due[#due + 1] = tonumber(line) end
    delay = wait -- wrk asks before each request
  end
end

function request()
  if made == #requests then return nothing end
  made = made + 1
  return requests[math.max(made, 1)] -- wrk asks for one request that it does not send
end

function response(_, _, body)
  if body:find("changed", 1, true) then
    answered = answered + 1
    if answered == #requests then finish() end
  end
end
