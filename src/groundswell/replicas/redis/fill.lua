-- Take over cells read from the store, as far as they are valid where the bucket stands.
-- KEYS: mark, cells, counts (of the first cells)
-- ARGV: epoch and rollup of the state they were read in, number of cells,
--       then of each cell: test, first, second, payload, payload where it did not exist yet
-- Test 'r', of what has rollups: it changed last at rollup `first`, and was born at `second`.
-- Test 'x', of what has a transaction: `first` wrote it (empty: it never was), and made it if `second` is '1'.
-- In capitals the same for what may replace a cell that is held, but not a longer list: it is of the same state.
local mark = redis.call('GET', KEYS[1])
if not mark then return 0 end
local epoch, gen, at, busy, revision = string.match(mark, '^(%d+) (%S+) (%d+) (%d) (%S+)$')
if epoch ~= ARGV[1] or busy ~= '0' or tonumber(ARGV[2]) < tonumber(at) then return 0 end
local xmin, xmax, xip = string.match(revision, '^(%d+):(%d+):(.*)$')

local function below(a, b) return #a < #b or (#a == #b and a < b) end -- ids do not fit Lua's numbers

local function sees(xid)
    if below(xid, xmin) then return true end
    return below(xid, xmax) and not string.find(',' .. xip .. ',', ',' .. xid .. ',', 1, true)
end

local function valid(test, first, second, payload, absent)
    if string.lower(test) == 'r' then
        if tonumber(first) <= tonumber(at) then return payload end
        return tonumber(second) > tonumber(at) and absent
    end
    if first == '' then return absent end
    if sees(first) then return payload end
    return second == '1' and absent
end

local set, cells = {}, tonumber(ARGV[3])
for i = 1, cells do
    local a = 4 + (i - 1) * 5
    local test = ARGV[a]
    local payload = valid(test, ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 4])
    local held = payload and redis.call('GET', KEYS[1 + i])
    if held and string.sub(held, 1, #gen + 1) == gen .. ' ' then
        local length = tonumber(string.match(held, ' %[(%d+),') or -1)
        local wanted = tonumber(string.match(payload, '^%[(%d+),') or 0)
        if string.lower(test) == test or length >= wanted then payload = nil end
    end
    if payload then
        set[#set + 1] = KEYS[1 + i]
        set[#set + 1] = gen .. ' ' .. at .. ' ' .. payload
        if KEYS[1 + cells + i] then
            set[#set + 1] = KEYS[1 + cells + i]
            set[#set + 1] = string.match(payload, '^%S+')
        end
    end
end
if #set > 0 then redis.call('MSET', unpack(set)) end
return #set
