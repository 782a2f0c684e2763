-- So many distinct follows of one target, in requests of ROWS each, then ends: REQUESTS ROWS FIRST.
-- The fans are spread over all numbers, as users' ids are: multiplication by an odd number is a permutation.
local requests, rows, fan
local answered, made = 0, -1 -- wrk asks for one request that it does not send
local headers = {["Content-Type"] = "application/json"}

function init(args)
  requests, rows, fan = tonumber(args[1]), tonumber(args[2]), tonumber(args[3])
end

function request()
  if made == requests then return "" end -- a connection that sends nothing waits for ever
  made = made + 1
  if made == 0 then return wrk.format("GET", "/") end
  local parts = {}
  for i = 1, rows do
    fan = fan + 1
    parts[i] = string.format('{"op":"add","kind":"follow","target":7,"source":%d}', fan * 387420489 % 1099511627776)
  end
  return wrk.format("POST", "/v1/writes", headers, '{"writes":[' .. table.concat(parts, ",") .. ']}')
end

function response(status, _, body)
  if body:find("outcomes", 1, true) then
    if body:find("false", 1, true) then io.stderr:write("a follow was there already\n") end
    answered = answered + 1
    if answered == requests then finish() end
  end
end
