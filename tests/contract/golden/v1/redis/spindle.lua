--[[ Every atomic step of the task protocol (design, section 5). ARGV[1] names the step, the rest are its arguments.

Rules that hold in all of them:
* time is Redis TIME, never a caller's clock;
* an outcome is JSON text that begins with {"status":"…"}: we read the status by pattern, and never decode or
  re-encode what users made (cjson cannot tell [] from {});
* a caller proves its right first: a worker by task + attempt + nonce (the fence), a driver by run + epoch;
* a step that ends a task acknowledges and deletes its stream entry in the same breath, then pumps its queue.
]]
local P, GROUP = 'spindle:', 'workers'
local call = redis.call

local function now()
  local t = call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function status_of(outcome)
  return outcome and string.match(outcome, '^{"status":"(%a+)"')
end

local TERMINAL = {completed = true, failed = true, skipped = true, cancelled = true}

-- Appends a durable event and shows it to whoever watches. `data` is JSON text.
local function emit(run, kind, node, attempt, data)
  local id = call('XADD', P .. 'events:' .. run, 'NOMKSTREAM', '*',
    'type', kind, 'node', node, 'attempt', attempt, 'data', data)
  if not id then return end
  call('PUBLISH', P .. 'live:' .. run, '{"id":"' .. id .. '","type":"' .. kind .. '","node":"' .. node
    .. '","attempt":' .. attempt .. ',"data":' .. data .. '}')
end

-- Moves ready tasks into the queue's stream, at most twice its live slots: late binding keeps order and priority ours.
local function pump(queue)
  local room = 2 * tonumber(call('HGET', P .. 'slots', queue) or 0) - call('XLEN', P .. 'queue:' .. queue)
  while room > 0 do
    local popped = call('ZPOPMIN', P .. 'ready:' .. queue, room)
    if #popped == 0 then return end
    for i = 1, #popped, 2 do
      local key = P .. 'task:' .. popped[i]
      if call('HGET', key, 'state') == 'ready' then
        call('HSET', key, 'entry', call('XADD', P .. 'queue:' .. queue, '*', 'task', popped[i]))
        room = room - 1
      end
    end
  end
end

local function leave_stream(queue, entry)
  if entry and entry ~= '' then
    call('XACK', P .. 'queue:' .. queue, GROUP, entry)
    call('XDEL', P .. 'queue:' .. queue, entry)
  end
end

-- Puts a task back among those that may run. Its place depends on priority, then on when it came first.
local function offer(task, key)
  local t = call('HMGET', key, 'queue', 'score')
  call('HSET', key, 'state', 'ready', 'entry', '', 'ready_at', now())
  call('ZADD', P .. 'ready:' .. t[1], t[2], task)
  pump(t[1])
end

-- Sets a node running in the ledger and says so, unless it ended or runs already under this attempt.
local function start_node(run, path, attempt, ms)
  local ledger = P .. 'ledger:' .. run
  local old = call('HGET', ledger, path)
  if TERMINAL[status_of(old)] then return end
  if status_of(old) == 'running' and string.find(old, '"attempt":' .. attempt .. ',', 1, true) then return end
  local outcome = '{"status":"running","attempt":' .. attempt .. ',"started_at":' .. ms .. '}'
  call('HSET', ledger, path, outcome)
  emit(run, 'node.started', path, attempt, '{}')
end

-- Writes one node's end. The first end counts; false says that there was one. Returns the text as it was kept.
local function end_node(run, path, attempt, outcome, data, ms)
  local ledger = P .. 'ledger:' .. run
  local old = call('HGET', ledger, path)
  if TERMINAL[status_of(old)] then return false end
  local started = old and string.match(old, '"started_at":(%d+)')
  local status = status_of(outcome)
  local kept = '{"status":"' .. status .. '","attempt":' .. attempt .. ',"ended_at":' .. ms
    .. (started and (',"started_at":' .. started) or '') .. string.sub(outcome, #status + 13)
  call('HSET', ledger, path, kept)
  emit(run, 'node.' .. (status == 'cancelled' and 'skipped' or status), path, attempt, data)
  return kept
end

local function wake(run, owner, outcomes)
  if owner and owner ~= '' then
    call('XADD', P .. 'drive:' .. owner, '*', 'run', run, 'outcomes', outcomes)
  end
end

local function refuse()
  call('HINCRBY', P .. 'counters', 'fences_refused', 1)
  return 'stale'
end

-- Checks a worker's right to a task; returns its fields, or nil and the answer for the caller.
local function fence(task, attempt, nonce)
  local t = call('HMGET', P .. 'task:' .. task, 'state', 'attempt', 'nonce', 'run', 'queue', 'entry')
  if not t[4] then return nil, 'ended' end
  if t[2] ~= attempt or t[3] ~= nonce then return nil, refuse() end
  if t[1] == 'done' then return nil, 'repeat' end
  if t[1] ~= 'running' then return nil, refuse() end
  if call('HGET', P .. 'run:' .. t[4], 'status') ~= 'running' then return nil, 'ended' end
  return {run = t[4], queue = t[5], entry = t[6]}
end

local function drive_right(run, epoch)
  local r = call('HMGET', P .. 'run:' .. run, 'status', 'epoch')
  if not r[1] then return 'missing' end
  if r[2] ~= epoch then return refuse() end
  if r[1] ~= 'running' then return 'ended' end
  return nil
end

local ops = {}

-- run, status, owner, epoch, tenant, priority, workflow, inputs, plan, traceparent -> 'opened' | 'exists'
function ops.open()
  local run, key = ARGV[2], P .. 'run:' .. ARGV[2]
  if call('EXISTS', key) == 1 then return 'exists' end
  call('HSET', key, 'status', ARGV[3], 'owner', ARGV[4], 'epoch', ARGV[5], 'tenant', ARGV[6], 'priority', ARGV[7],
    'workflow', ARGV[8], 'inputs', ARGV[9], 'plan', ARGV[10], 'traceparent', ARGV[11], 'created_at', now())
  call('XADD', P .. 'events:' .. run, '*', 'type', 'run.queued', 'node', '', 'attempt', 0, 'data', '{}')
  if ARGV[3] == 'queued' then
    call('ZADD', P .. 'waiting', -tonumber(ARGV[7]) * 1e11 + call('HINCRBY', P .. 'counters', 'sequence', 1), run)
  else
    emit(run, 'run.started', '', 0, '{}')
  end
  return 'opened'
end

-- run, owner, epoch -> 'owned' | 'stale' | 'ended' | 'missing'. Accepts only a higher epoch, or the same again.
function ops.own()
  local run, key = ARGV[2], P .. 'run:' .. ARGV[2]
  local r = call('HMGET', key, 'status', 'epoch', 'owner')
  if not r[1] then return 'missing' end
  if r[1] ~= 'running' and r[1] ~= 'queued' then return 'ended' end
  local higher = tonumber(ARGV[4]) > tonumber(r[2])
  if not higher and not (r[2] == ARGV[4] and r[3] == ARGV[3]) then return refuse() end
  call('HSET', key, 'owner', ARGV[3], 'epoch', ARGV[4], 'status', 'running')
  call('ZREM', P .. 'waiting', run)
  if r[1] == 'queued' then emit(run, 'run.started', '', 0, '{}') end
  return 'owned'
end

-- run, epoch, then for each task: name, queue, body, paths (JSON list), starts (JSON list), crash budget
function ops.dispatch()
  local run, epoch = ARGV[2], ARGV[3]
  local no = drive_right(run, epoch)
  if no then return no end
  local priority = tonumber(call('HGET', P .. 'run:' .. run, 'priority'))
  local queues = {}
  for i = 4, #ARGV, 6 do
    local task = run .. '/' .. ARGV[i]
    local key, queue = P .. 'task:' .. task, ARGV[i + 1]
    if call('HSETNX', key, 'run', run) == 1 then
      local score = -priority * 1e11 + call('HINCRBY', P .. 'counters', 'sequence', 1)
      call('HSET', key, 'name', ARGV[i], 'state', 'ready', 'queue', queue, 'body', ARGV[i + 2], 'paths', ARGV[i + 3],
        'starts', ARGV[i + 4], 'attempt', 0, 'score', score, 'ready_at', now(), 'crashes', 0,
        'crash_budget', ARGV[i + 5])
      call('SADD', P .. 'tasks:' .. run, ARGV[i])
      call('ZADD', P .. 'ready:' .. queue, score, task)
      for _, path in ipairs(cjson.decode(ARGV[i + 3])) do
        if call('HSETNX', P .. 'ledger:' .. run, path, '{"status":"queued"}') == 1 then
          emit(run, 'node.queued', path, 0, '{"queue":"' .. queue .. '"}')
        end
      end
      queues[queue] = true
    end
  end
  for queue in pairs(queues) do pump(queue) end
  return 'ok'
end

-- Gives one stream entry to a worker, or drops it; returns what the worker needs.
local function take_entry(worker, nonce, lease_ms, queue, entry, task)
  local key = P .. 'task:' .. task
  local t = call('HMGET', key, 'state', 'entry', 'run', 'attempt', 'body', 'starts', 'ready_at')
  if t[1] ~= 'ready' or t[2] ~= entry or call('HGET', P .. 'run:' .. t[3], 'status') ~= 'running' then
    leave_stream(queue, entry)
    return nil
  end
  local ms, attempt = now(), t[4] + 1
  call('HSET', key, 'state', 'running', 'attempt', attempt, 'worker', worker, 'nonce', nonce,
    'lease_until', ms + lease_ms, 'started_at', ms)
  call('ZADD', P .. 'leases', ms + lease_ms, task)
  for _, path in ipairs(cjson.decode(t[6])) do start_node(t[3], path, attempt, ms) end
  return {task, attempt, t[5], queue, ms - t[7]}
end

local function taken_before(worker, nonce)
  local again = {}
  for task in string.gmatch(call('HGET', P .. 'worker:' .. worker, 'took') or '', '[^\n]+') do
    local t = call('HMGET', P .. 'task:' .. task, 'nonce', 'state', 'attempt', 'body', 'queue')
    if t[1] == nonce and t[2] == 'running' then again[#again + 1] = {task, tonumber(t[3]), t[4], t[5], 0} end
  end
  return again
end

local function read_group(queue, worker, count)
  local key = P .. 'queue:' .. queue
  local reply = redis.pcall('XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', count, 'STREAMS', key, '>')
  if reply and reply.err then
    call('XGROUP', 'CREATE', key, GROUP, '0', 'MKSTREAM')
    reply = call('XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', count, 'STREAMS', key, '>')
  end
  return reply and reply[1][2] or {}
end

-- worker, nonce, lease ms, then for each queue: name, count -> list of {task, attempt, body, queue, waited ms}
function ops.take()
  local worker, nonce, lease_ms = ARGV[2], ARGV[3], tonumber(ARGV[4])
  local me = P .. 'worker:' .. worker
  if call('HGET', me, 'nonce') == nonce then return taken_before(worker, nonce) end
  local took, names = {}, {}
  for i = 5, #ARGV, 2 do
    local queue, want = ARGV[i], tonumber(ARGV[i + 1])
    while want > 0 do
      local entries = read_group(queue, worker, want)
      if #entries == 0 then break end
      for _, entry in ipairs(entries) do
        local got = take_entry(worker, nonce, lease_ms, queue, entry[1], entry[2][2])
        if got then
          took[#took + 1], names[#names + 1], want = got, got[1], want - 1
        end
      end
      pump(queue)
    end
  end
  if #took > 0 then call('HSET', me, 'nonce', nonce, 'took', table.concat(names, '\n')) end
  return took
end

-- worker, lease ms, expiry ms, then for each task: task, attempt, nonce -> {known?, lost tasks…}
function ops.beat()
  local ms = now()
  local known = call('ZADD', P .. 'workers', 'XX', 'CH', ms + ARGV[4], ARGV[2])
  local reply = {call('EXISTS', P .. 'worker:' .. ARGV[2])}
  for i = 5, #ARGV, 3 do
    local t, why = fence(ARGV[i], ARGV[i + 1], ARGV[i + 2])
    if t then
      call('HSET', P .. 'task:' .. ARGV[i], 'lease_until', ms + ARGV[3])
      call('ZADD', P .. 'leases', ms + ARGV[3], ARGV[i])
    elseif why ~= 'repeat' then
      reply[#reply + 1] = ARGV[i]
    end
  end
  return reply
end

-- task, attempt, nonce, last ('1' or ''), then in order of time for each node that starts or ends: path, outcome ('' for
-- a start), event data -> 'ok' | 'repeat' | 'stale' | 'ended'
function ops.commit()
  local task, attempt, nonce = ARGV[2], ARGV[3], ARGV[4]
  local t, why = fence(task, attempt, nonce)
  if not t then return why end
  local ms, kept = now(), {}
  for i = 6, #ARGV, 3 do
    if ARGV[i + 1] == '' then
      start_node(t.run, ARGV[i], attempt, ms)
    else
      local text = end_node(t.run, ARGV[i], attempt, ARGV[i + 1], ARGV[i + 2], ms)
      if text then kept[#kept + 1] = '"' .. ARGV[i] .. '":' .. text end
    end
  end
  if #kept > 0 then
    wake(t.run, call('HGET', P .. 'run:' .. t.run, 'owner'), '{' .. table.concat(kept, ',') .. '}')
  end
  if ARGV[5] == '1' then
    call('HSET', P .. 'task:' .. task, 'state', 'done', 'body', '')
    call('ZREM', P .. 'leases', task)
    leave_stream(t.queue, t.entry)
    pump(t.queue)
  end
  return 'ok'
end

-- task, attempt, nonce, cause, delay ms, path ('' for the whole task), event data -> 'ok' | …
function ops.give_back()
  local task, key = ARGV[2], P .. 'task:' .. ARGV[2]
  local t, why = fence(task, ARGV[3], ARGV[4])
  if not t then return why end
  call('HINCRBY', key, ARGV[5], 1)
  call('ZREM', P .. 'leases', task)
  leave_stream(t.queue, t.entry)
  if ARGV[7] ~= '' then
    call('HINCRBY', key, 'errors:' .. ARGV[7], 1)
    call('HSET', P .. 'ledger:' .. t.run, ARGV[7], '{"status":"waiting","attempt":' .. ARGV[3] .. '}')
    emit(t.run, 'node.retrying', ARGV[7], ARGV[3], ARGV[8])
  end
  if tonumber(ARGV[6]) > 0 then
    call('HSET', key, 'state', 'waiting', 'entry', '')
    call('ZADD', P .. 'timers', now() + ARGV[6], task)
    pump(t.queue)
  else
    offer(task, key)
  end
  return 'ok'
end

-- task, attempt, nonce, path, event type, data, keep ('1': remember it as the last tick) -> 'ok' | …
function ops.tick()
  local t, why = fence(ARGV[2], ARGV[3], ARGV[4])
  if not t then return why end
  if ARGV[8] == '1' then call('HSET', P .. 'ticks:' .. t.run, ARGV[5], ARGV[7]) end
  call('PUBLISH', P .. 'live:' .. t.run, '{"type":"' .. ARGV[6] .. '","node":"' .. ARGV[5] .. '","attempt":' .. ARGV[3]
    .. ',"at":' .. now() .. ',"data":' .. ARGV[7] .. '}')
  return 'ok'
end

-- run, epoch, then for each node: path, outcome, event data. What the driver itself decides: skips, refusals.
function ops.settle()
  local no = drive_right(ARGV[2], ARGV[3])
  if no then return no end
  local ms = now()
  for i = 4, #ARGV, 3 do end_node(ARGV[2], ARGV[i], 0, ARGV[i + 1], ARGV[i + 2], ms) end
  return 'ok'
end

local function end_task(run, name)
  local task = run .. '/' .. name
  local key = P .. 'task:' .. task
  local t = call('HMGET', key, 'state', 'queue', 'entry')
  if not t[1] then return nil end
  leave_stream(t[2], t[3])
  call('ZREM', P .. 'leases', task)
  call('ZREM', P .. 'timers', task)
  call('ZREM', P .. 'ready:' .. t[2], task)
  call('DEL', key)
  return t[2]
end

local function close_ledger(run, ms)
  local ledger = call('HGETALL', P .. 'ledger:' .. run)
  for i = 1, #ledger, 2 do
    if not TERMINAL[status_of(ledger[i + 1])] then
      call('HSET', P .. 'ledger:' .. run, ledger[i], '{"status":"cancelled","reason":"run-ended","ended_at":' .. ms .. '}')
    end
  end
end

-- run, epoch ('' for whoever may cancel), status, event data -> 'ok' | 'stale' | 'missing' | the status it ended with
function ops.finish()
  local run, key = ARGV[2], P .. 'run:' .. ARGV[2]
  local r = call('HMGET', key, 'status', 'epoch', 'owner')
  if not r[1] then return 'missing' end
  if r[1] ~= 'running' and r[1] ~= 'queued' and r[1] ~= 'paused' then return r[1] end
  if ARGV[3] ~= '' and ARGV[3] ~= r[2] then return refuse() end
  local ms, queues = now(), {}
  call('HSET', key, 'status', ARGV[4], 'ended_at', ms, 'ending', ARGV[5])
  for _, name in ipairs(call('SMEMBERS', P .. 'tasks:' .. run)) do
    local queue = end_task(run, name)
    if queue then queues[queue] = true end
  end
  close_ledger(run, ms)
  call('DEL', P .. 'tasks:' .. run, P .. 'ticks:' .. run)
  call('ZREM', P .. 'waiting', run)
  emit(run, 'run.' .. ARGV[4], '', 0, ARGV[5])
  call('PUBLISH', P .. 'stopped', run)
  if ARGV[3] == '' and r[3] ~= '' then call('XADD', P .. 'drive:' .. r[3], '*', 'run', run, 'ended', ARGV[4]) end
  for queue in pairs(queues) do pump(queue) end
  return 'ok'
end

-- run, milliseconds: the database has it all, Redis may forget it then.
function ops.archive()
  for _, kind in ipairs({'run:', 'ledger:', 'events:'}) do call('PEXPIRE', P .. kind .. ARGV[2], ARGV[3]) end
  return 'ok'
end

local function bury(task, key, t, problem, ms)
  local kept = {}
  for _, path in ipairs(cjson.decode(t[3])) do
    local text = end_node(t[1], path, t[4], '{"status":"failed","problem":' .. problem .. '}', '{"problem":' .. problem .. '}', ms)
    if text then kept[#kept + 1] = '"' .. path .. '":' .. text end
  end
  call('HSET', key, 'state', 'dead', 'body', '')
  call('XADD', P .. 'dead', 'MAXLEN', '~', 10000, '*', 'task', task, 'queue', t[2], 'attempt', t[4], 'problem', problem)
  wake(t[1], call('HGET', P .. 'run:' .. t[1], 'owner'), '{' .. table.concat(kept, ',') .. '}')
end

local function lapse(task, problem, ms)
  local key = P .. 'task:' .. task
  local t = call('HMGET', key, 'run', 'queue', 'paths', 'attempt', 'entry', 'crash_budget', 'worker')
  call('ZREM', P .. 'leases', task)
  if not t[1] then return end
  call('HINCRBY', P .. 'counters', 'leases_lapsed', 1)
  leave_stream(t[2], t[5])
  if call('HINCRBY', key, 'crashes', 1) >= tonumber(t[6]) then
    bury(task, key, t, problem, ms)
    pump(t[2])
    return
  end
  for _, path in ipairs(cjson.decode(t[3])) do
    local old = call('HGET', P .. 'ledger:' .. t[1], path)
    if status_of(old) == 'running' then
      call('HSET', P .. 'ledger:' .. t[1], path, '{"status":"queued","attempt":' .. t[4] .. '}')
      emit(t[1], 'node.retrying', path, t[4], '{"cause":"crash","worker":"' .. (t[7] or '') .. '"}')
    end
  end
  offer(task, key)
end

local function forget(worker)
  local slots = call('HGET', P .. 'worker:' .. worker, 'slots')
  call('ZREM', P .. 'workers', worker)
  if not slots then return end
  for queue, count in pairs(cjson.decode(slots)) do
    call('HINCRBY', P .. 'slots', queue, -count)
    for _, c in ipairs(redis.pcall('XINFO', 'CONSUMERS', P .. 'queue:' .. queue, GROUP)) do
      if type(c) == 'table' and c[2] == worker and c[4] == 0 then
        call('XGROUP', 'DELCONSUMER', P .. 'queue:' .. queue, GROUP, worker)
      end
    end
  end
  call('DEL', P .. 'worker:' .. worker)
end

-- most, problem of a task that used up its budget -> how many timers, leases and workers were seen to
function ops.sweep()
  local ms, most = now(), ARGV[2]
  local due = call('ZRANGEBYSCORE', P .. 'timers', '-inf', ms, 'LIMIT', 0, most)
  for _, task in ipairs(due) do
    call('ZREM', P .. 'timers', task)
    local key = P .. 'task:' .. task
    if call('HGET', key, 'state') == 'waiting' then offer(task, key) end
  end
  local lapsed = call('ZRANGEBYSCORE', P .. 'leases', '-inf', ms, 'LIMIT', 0, most)
  for _, task in ipairs(lapsed) do lapse(task, ARGV[3], ms) end
  local gone = call('ZRANGEBYSCORE', P .. 'workers', '-inf', ms, 'LIMIT', 0, most)
  for _, worker in ipairs(gone) do forget(worker) end
  return {#due, #lapsed, #gone}
end

-- worker, expiry ms, manifest, slots (JSON object)
function ops.register()
  local worker = ARGV[2]
  forget(worker)
  call('HSET', P .. 'worker:' .. worker, 'manifest', ARGV[4], 'slots', ARGV[5], 'since', now())
  call('ZADD', P .. 'workers', now() + ARGV[3], worker)
  for queue, count in pairs(cjson.decode(ARGV[5])) do
    call('HINCRBY', P .. 'slots', queue, count)
    redis.pcall('XGROUP', 'CREATE', P .. 'queue:' .. queue, GROUP, '0', 'MKSTREAM')
    pump(queue)
  end
  return 'ok'
end

-- worker
function ops.unregister()
  forget(ARGV[2])
  return 'ok'
end

-- owner, expiry ms -> owners whose lease lapsed
function ops.control_beat()
  local ms = now()
  call('ZADD', P .. 'controls', ms + ARGV[3], ARGV[2])
  return call('ZRANGEBYSCORE', P .. 'controls', '-inf', ms, 'LIMIT', 0, 100)
end

-- owner: its runs are adopted, or it said goodbye
function ops.control_gone()
  call('ZREM', P .. 'controls', ARGV[2])
  call('DEL', P .. 'drive:' .. ARGV[2])
  return 'ok'
end

return ops[ARGV[1]]()
