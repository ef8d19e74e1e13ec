-- The requests of one workload, for wrk. Arguments behind `--`: the workload, a seed, a file of
-- readers and one of writers, the first task that may be deleted, and a query for lists.
-- A line of a file is a user: id, first task, step from task to task, number of tasks, token.

local CREATE = '{"title": "Buy groceries for the week", "description": "Milk, bread and eggs"}'
local UPDATE = '{"title": "Buy groceries for the next week", "completed": true}'

local function users(file)
  local found = {}
  for line in io.lines(file) do
    local id, first, step, count, token = line:match("(%S+) (%d+) (%d+) (%d+) (%S+)")
    found[#found + 1] = {
      path = "/api/" .. id .. "/tasks",
      first = tonumber(first), step = tonumber(step), count = tonumber(count),
      headers = { Authorization = "Bearer " .. token, ["Content-Type"] = "application/json" },
    }
  end
  return found
end

local function any(group) return group[math.random(#group)] end

local function send(method, user, path, body)
  return wrk.format(method, user.path .. path, user.headers, body)
end

local function task_of(user)
  return "/" .. user.first + user.step * math.random(0, user.count - 1)
end

local requests = {
  W1 = function() local user = any(readers); return send("GET", user, task_of(user)) end,
  W2 = function() return send("GET", any(readers), query) end,
  W3 = function() return send("POST", any(writers), "", CREATE) end,
  W4 = function()
    local user = any(readers)
    return send("PATCH", user, task_of(user) .. "/complete")
  end,
  PUT = function() local user = any(readers); return send("PUT", user, task_of(user), UPDATE) end,
  DELETE = function()
    deleted = deleted + 1
    return send("DELETE", writers[1], "/" .. first_to_delete + deleted - 1)
  end,
}

function requests.MIX()
  local chance = math.random(100)
  if chance <= 60 then return requests.W1() end
  if chance <= 80 then return requests.W2() end
  if chance <= 90 then return requests.W3() end
  return requests.W4()
end

function init(arguments)
  math.randomseed(tonumber(arguments[2]))
  readers, writers = users(arguments[3]), users(arguments[4])
  first_to_delete, deleted = tonumber(arguments[5]), 0
  query = arguments[6] or ""
  request = requests[arguments[1]]
end

-- setup and done run in a state of their own, which sees a thread's globals through this.
local threads = {}
function setup(thread) threads[#threads + 1] = thread end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "microseconds": %d, "p50": %d, "p99": %d, "failed": %d, "deleted": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status + errors.connect + errors.read + errors.write + errors.timeout,
    threads[1]:get("deleted")))
end
