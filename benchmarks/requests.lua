-- Sends a file's requests, with wrk, over and over. Argument behind `--`: the file, in which an RS
-- (character 30) separates the requests.

local requests, sent = {}, 0

function init(arguments)
  for text in io.open(arguments[1], "rb"):read("*a"):gmatch("[^\30]+") do
    requests[#requests + 1] = text
  end
end

function request()
  sent = sent + 1
  return requests[(sent - 1) % #requests + 1]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "microseconds": %d, "p50": %d, "p99": %d, "failed": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
