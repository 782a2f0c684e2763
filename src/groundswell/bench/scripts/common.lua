-- What all scripts share: ends wrk early, and says what it met as one line of JSON.
local ffi = require("ffi")
ffi.cdef [[ int kill(int pid, int signal); int getpid(void); ]]

function finish() ffi.C.kill(ffi.C.getpid(), 2) end

function done(summary, latency)
  local errors = summary.errors
  io.stderr:write(string.format(
    '{"requests":%d,"seconds":%.6f,"p50_ms":%.3f,"p95_ms":%.3f,"p99_ms":%.3f,"refused":%d,"broken":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(95) / 1e3,
    latency:percentile(99) / 1e3, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end

