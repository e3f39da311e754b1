--[[ Every atomic step of the task protocol (design, section 5). ARGV[1] names the step, the rest are its arguments.

Rules that hold in all of them:
* time is Redis TIME, never a caller's clock;
* an outcome is JSON text that begins with {"status":"…"}: we read the status by pattern, and never decode or
  re-encode what users made (cjson cannot tell [] from {});
* a caller proves its right first: a worker by task + attempt + nonce (the fence), a driver by run + epoch;
* a step that ends a task acknowledges and deletes its stream entry in the same breath, then pumps its queue.

States of a task: ready (in its lane, or in the queue's stream) -> running -> done | dead;  waiting for a timer, held
while its run is paused. A run is queued -> running <-> paused -> an end; parking while it moves to the database.
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

-- Lanes share a queue fairly among tenants (stride scheduling, Waldspurger 1995): sorted set {lane} holds each tenant
-- that waits with its pass, {lane}:{tenant} what waits, best first. Whoever has the least pass is served next and pays
-- 1 / weight. A tenant that comes back starts at the pass of the last one served, or at its own if that is higher:
-- nobody saves up time, and nobody jumps the queue by leaving it.
local function lane_add(lane, tenant, weight, score, member)
  call('ZADD', P .. lane .. ':' .. tenant, score, member)
  if call('ZSCORE', P .. lane, tenant) then return end
  local own, last = unpack(call('HMGET', P .. 'passes:' .. lane, 'tenant:' .. tenant, 'served'))
  call('HSET', P .. 'passes:' .. lane, 'weight:' .. tenant, weight or 1)
  call('ZADD', P .. lane, math.max(tonumber(own or 0), tonumber(last or 0)), tenant)
end

local function lane_leave(lane, tenant, pass)
  call('ZREM', P .. lane, tenant)
  if call('EXISTS', P .. lane) == 0 then
    call('DEL', P .. 'passes:' .. lane)
  elseif pass then
    call('HSET', P .. 'passes:' .. lane, 'tenant:' .. tenant, pass)
  end
end

local function lane_pop(lane)
  while true do
    local first = call('ZRANGE', P .. lane, 0, 0, 'WITHSCORES')
    if #first == 0 then return nil end
    local tenant, pass = first[1], tonumber(first[2])
    local popped = call('ZPOPMIN', P .. lane .. ':' .. tenant)
    if #popped > 0 then
      local after = pass + 1 / tonumber(call('HGET', P .. 'passes:' .. lane, 'weight:' .. tenant) or 1)
      call('HSET', P .. 'passes:' .. lane, 'served', pass)
      if call('EXISTS', P .. lane .. ':' .. tenant) == 1 then
        call('ZADD', P .. lane, after, tenant)
      else
        lane_leave(lane, tenant, after)
      end
      return popped[1]
    end
    lane_leave(lane, tenant)
  end
end

local function lane_count(lane)
  local count = 0
  for _, tenant in ipairs(call('ZRANGE', P .. lane, 0, -1)) do
    count = count + call('ZCARD', P .. lane .. ':' .. tenant)
  end
  return count
end

local TERMINAL = {completed = true, failed = true, skipped = true, cancelled = true}

-- Appends a durable event and shows it to whoever watches. `data` is JSON text. `first`: the id with which the stream
-- begins anew.
local function emit(run, kind, node, attempt, data, first)
  local args = {P .. 'events:' .. run, first or 'NOMKSTREAM'}
  if not first then args[3] = '*' end
  local fields = {'type', kind, 'node', node, 'attempt', attempt, 'data', data}
  for i = 1, #fields do args[#args + 1] = fields[i] end
  local id = call('XADD', unpack(args))
  if not id then return end
  call('PUBLISH', P .. 'live:' .. run, '{"id":"' .. id .. '","type":"' .. kind .. '","node":"' .. node
    .. '","attempt":' .. attempt .. ',"data":' .. data .. '}')
end

-- What the version before lanes wrote: `ready:{queue}` held tasks, `waiting` held runs, their hashes had no weight, a
-- task's no tenant and no patience. Its workers still go on so, hence we look each time. The keys have other names now,
-- since an old script would take tenants for tasks.
local offer
local landed, leave_flights, unwait, look_again  -- of the content cache, see there
local function adopt_old(queue)
  local old = P .. 'ready:' .. queue
  for _, task in ipairs(call('ZRANGE', old, 0, -1)) do
    call('ZREM', old, task)
    if call('HGET', P .. 'task:' .. task, 'state') == 'ready' then offer(task, P .. 'task:' .. task) end
  end
end

-- A task has a form: '' is what every worker understands, 'frames' (a body's nodes, whose paths have a prefix) what the
-- version before did not. Each form has a stream of its own, so that nobody reads what he would get wrong.
local FORMS = {'', 'frames'}
local function stream_of(queue, form)
  return P .. 'queue:' .. queue .. (form and form ~= '' and ':' .. form or '')
end

-- Moves ready tasks into the queue's streams, at most twice its live slots: late binding keeps order and priority ours.
-- While nobody lives who understands frames, those that wait for it take nobody's place.
local function pump(queue)
  adopt_old(queue)
  local room = 2 * tonumber(call('HGET', P .. 'slots', queue) or 0) - call('XLEN', stream_of(queue))
  if tonumber(call('HGET', P .. 'slots:frames', queue) or 0) > 0 then
    room = room - call('XLEN', stream_of(queue, 'frames'))
  end
  while room > 0 do
    local task = lane_pop('lane:' .. queue)
    if not task then return end
    local key = P .. 'task:' .. task
    local t = call('HMGET', key, 'state', 'run', 'form')
    if t[1] == 'ready' then
      if call('HGET', P .. 'run:' .. t[2], 'status') == 'paused' then
        call('HSET', key, 'state', 'held')
      else
        call('HSET', key, 'entry', call('XADD', stream_of(queue, t[3]), '*', 'task', task))
        room = room - 1
      end
    end
  end
end

local function drop_entry(stream, entry)
  call('XACK', stream, GROUP, entry)
  call('XDEL', stream, entry)
end

local function leave_stream(key)
  local t = call('HMGET', key, 'entry', 'queue', 'form')
  if t[1] and t[1] ~= '' then drop_entry(stream_of(t[2], t[3]), t[1]) end
end

-- Puts a task among those that may run; its caller pumps. Within its tenant's lane its place depends on priority, then
-- on when it came first. A task of a paused run is held until the run goes on.
function offer(task, key)
  local t = call('HMGET', key, 'queue', 'score', 'tenant', 'weight', 'run', 'queue_ms')
  if not t[3] then
    t[3], t[4], t[6] = call('HGET', P .. 'run:' .. t[5], 'tenant') or 'default', 1, 0
    call('HSET', key, 'tenant', t[3], 'weight', 1, 'queue_ms', 0)
  end
  if call('HGET', P .. 'run:' .. t[5], 'status') == 'paused' then
    call('HSET', key, 'state', 'held', 'entry', '')
    return t[1]
  end
  local ms = now()
  call('HSET', key, 'state', 'ready', 'entry', '', 'ready_at', ms)
  if tonumber(t[6]) > 0 then call('ZADD', P .. 'patience', ms + t[6], task) end
  lane_add('lane:' .. t[1], t[3], t[4], t[2], task)
  return t[1]
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

-- Wakes a control, if the run has one. A stream of one that died meanwhile, which nobody reads, goes after a day.
local DRIVE_MS = 86400000
local function wake(run, owner, what, text)
  if not owner or owner == '' then return end
  call('XADD', P .. 'drive:' .. owner, '*', 'run', run, what, text)
  call('PEXPIRE', P .. 'drive:' .. owner, DRIVE_MS)
end

local function refuse()
  call('HINCRBY', P .. 'counters', 'fences_refused', 1)
  return 'stale'
end

-- Checks a worker's right to a task; returns its fields, or nil and the answer for the caller.
local function fence(task, attempt, nonce)
  local t = call('HMGET', P .. 'task:' .. task, 'state', 'attempt', 'nonce', 'run', 'queue')
  if not t[4] then return nil, 'ended' end
  if t[2] ~= attempt or t[3] ~= nonce then return nil, refuse() end
  if t[1] == 'done' then return nil, 'repeat' end
  if t[1] ~= 'running' then return nil, refuse() end
  local status = call('HGET', P .. 'run:' .. t[4], 'status')
  if status ~= 'running' and status ~= 'paused' then return nil, 'ended' end
  return {run = t[4], queue = t[5]}
end

local function drive_right(run, epoch)
  local r = call('HMGET', P .. 'run:' .. run, 'status', 'epoch')
  if not r[1] then return 'missing' end
  if r[2] ~= epoch then return refuse() end
  if r[1] == 'parking' then return 'parking' end
  if r[1] ~= 'running' and r[1] ~= 'paused' then return 'ended' end
  return nil
end

-- Bytes that garbage collection has marked: naming them in an outcome or an input pardons them, unless their deletion
-- has begun; then the caller writes them anew once it is over. These keys exist only while a collection goes on.
local DELETE_MS, SPARE_MS = 60000, 600000
local function being_deleted(digest)
  local since = call('ZSCORE', P .. 'deleting', digest)
  return since and tonumber(since) + DELETE_MS > now()
end

local function pardon(text)
  if call('EXISTS', P .. 'deleting', P .. 'condemned') == 0 then return true end
  for digest in string.gmatch(text, 'sha256:%x+') do
    if being_deleted(digest) then return false end
    call('HDEL', P .. 'condemned', digest)
  end
  return true
end

local ops = {}

local function end_task(run, name)
  local task = run .. '/' .. name
  local key = P .. 'task:' .. task
  local t = call('HMGET', key, 'state', 'queue', 'tenant')
  if not t[1] then return nil end
  leave_stream(key)
  local sets = {'leases', 'timers', 'patience', 'ready:' .. t[2], 'lane:' .. t[2] .. ':' .. (t[3] or '')}
  for _, set in ipairs(sets) do call('ZREM', P .. set, task) end
  unwait(task, key)
  call('DEL', key)
  leave_flights(task)
  return t[2]
end

-- Ends a run's tasks; what they leave free is filled again.
local function end_tasks(run)
  local queues = {}
  for _, name in ipairs(call('SMEMBERS', P .. 'tasks:' .. run)) do
    local queue = end_task(run, name)
    if queue then queues[queue] = true end
  end
  call('DEL', P .. 'tasks:' .. run, P .. 'ticks:' .. run)
  for queue in pairs(queues) do pump(queue) end
end

-- A higher priority goes first, then who came first: 200 priorities of 1e11 places each are exact in a double.
local function place(priority)
  return -tonumber(priority) * 1e11 + call('HINCRBY', P .. 'counters', 'sequence', 1)
end

local function write_run(status)
  call('HSET', P .. 'run:' .. ARGV[2], 'status', status, 'owner', ARGV[3], 'epoch', ARGV[4], 'tenant', ARGV[5],
    'weight', ARGV[6], 'priority', ARGV[7], 'workflow', ARGV[8], 'inputs', ARGV[9], 'plan', ARGV[10],
    'traceparent', ARGV[11], 'seeds', ARGV[12], 'created_at', now())
end

-- run, owner, epoch, tenant, weight, priority, workflow, inputs, plan, traceparent, seeds, status, then path, outcome, event
-- data for each node whose result another run had -> 'opened' | 'exists' | 'deleting'
function ops.open()
  local run, status = ARGV[2], ARGV[13]
  if call('EXISTS', P .. 'run:' .. run) == 1 then return 'exists' end
  if not (pardon(ARGV[8]) and pardon(ARGV[9])) then return 'deleting' end
  for i = 14, #ARGV, 3 do
    if not pardon(ARGV[i + 1]) then return 'deleting' end
  end
  write_run(status)
  call('XADD', P .. 'events:' .. run, '*', 'type', 'run.queued', 'node', '', 'attempt', 0, 'data', '{}')
  if status == 'queued' then
    lane_add('line', ARGV[5], ARGV[6], place(ARGV[7]), run)
  else
    emit(run, 'run.started', '', 0, '{}')
  end
  for i = 14, #ARGV, 3 do end_node(run, ARGV[i], 0, ARGV[i + 1], ARGV[i + 2], now()) end
  return 'opened'
end

-- run, owner, epoch, tenant … seeds as for `open`, id of the last event, then path, outcome for each node.
-- Rebuilds a parked run from what the database kept -> 'restored' | 'exists'
function ops.restore()
  local run, key = ARGV[2], P .. 'run:' .. ARGV[2]
  local status = call('HGET', key, 'status')
  if status and status ~= 'parking' then return 'exists' end
  end_tasks(run)
  call('DEL', P .. 'ledger:' .. run, P .. 'events:' .. run)
  write_run('running')
  for i = 14, #ARGV, 2 do call('HSET', P .. 'ledger:' .. run, ARGV[i], ARGV[i + 1]) end
  local ms, seq = string.match(ARGV[13], '^(%d+)-(%d+)$')
  local behind = ms .. '-' .. string.format('%d', seq + 1)
  emit(run, 'run.started', '', 0, '{"resumed":true}', now() > tonumber(ms) and now() .. '-0' or behind)
  return 'restored'
end

-- run, owner, epoch -> 'owned' | 'paused' (owned too) | 'stale' | 'ended' | 'missing'. Accepts only a higher epoch, or
-- the same again. A run whose driver died while parking it is paused, unless it was parked for want of answers.
function ops.own()
  local run, key = ARGV[2], P .. 'run:' .. ARGV[2]
  local r = call('HMGET', key, 'status', 'epoch', 'owner', 'tenant', 'asks')
  if not r[1] then return 'missing' end
  if TERMINAL[r[1]] then return 'ended' end
  local higher = tonumber(ARGV[4]) > tonumber(r[2])
  if not higher and not (r[2] == ARGV[4] and r[3] == ARGV[3]) then return refuse() end
  local rests = r[1] == 'paused' or (r[1] == 'parking' and not r[5])
  call('HDEL', key, 'asks')
  call('HSET', key, 'owner', ARGV[3], 'epoch', ARGV[4], 'status', rests and 'paused' or 'running')
  call('ZREM', P .. 'line:' .. r[4], run)
  if r[1] == 'queued' then emit(run, 'run.started', '', 0, '{}') end
  return rests and 'paused' or 'owned'
end

-- run: put it in line for a driver, if it is not there -> 'ok' | 'missing' | the status in which it is
local function enqueue(run)
  local r = call('HMGET', P .. 'run:' .. run, 'status', 'tenant', 'weight', 'priority')
  if not r[1] then return 'missing' end
  if r[1] ~= 'queued' then return r[1] end
  if not call('ZSCORE', P .. 'line:' .. r[2], run) then lane_add('line', r[2], r[3], place(r[4]), run) end
  return 'ok'
end

function ops.enqueue()
  return enqueue(ARGV[2])
end

-- -> the run that is next to get a driver, or false
function ops.next_waiting()
  for _, run in ipairs(call('ZRANGE', P .. 'waiting', 0, -1)) do
    call('ZREM', P .. 'waiting', run)
    enqueue(run)
  end
  return lane_pop('line')
end

-- tenant -> how many runs wait for a driver, how many of them are the tenant's
function ops.waiting_count()
  return {lane_count('line'), call('ZCARD', P .. 'line:' .. ARGV[2])}
end

-- run, epoch, crash budget, then for each task: name, queue, form, body, paths (JSON list), starts (JSON list), ms that it
-- may wait
function ops.dispatch()
  local run, epoch, budget = ARGV[2], ARGV[3], ARGV[4]
  local no = drive_right(run, epoch)
  if no then return no end
  local r = call('HMGET', P .. 'run:' .. run, 'priority', 'tenant', 'weight')
  local queues = {}
  for i = 5, #ARGV, 7 do
    local name, queue, form, body, paths, starts, wait = unpack(ARGV, i, i + 6)
    local task = run .. '/' .. name
    local key = P .. 'task:' .. task
    if call('HSETNX', key, 'run', run) == 1 then
      call('HSET', key, 'name', name, 'queue', queue, 'form', form, 'body', body, 'paths', paths, 'starts', starts,
        'queue_ms', wait, 'tenant', r[2], 'weight', r[3] or 1, 'score', place(r[1]), 'attempt', 0, 'crash_budget', budget)
      call('SADD', P .. 'tasks:' .. run, name)
      offer(task, key)
      for _, path in ipairs(cjson.decode(paths)) do
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
local function take_entry(worker, nonce, lease_ms, stream, entry, task)
  local key = P .. 'task:' .. task
  local t = call('HMGET', key, 'state', 'entry', 'run', 'attempt', 'body', 'starts', 'ready_at', 'queue')
  local status = t[3] and call('HGET', P .. 'run:' .. t[3], 'status')
  if t[1] ~= 'ready' or t[2] ~= entry or status ~= 'running' then
    drop_entry(stream, entry)
    if t[1] == 'ready' and t[2] == entry and status == 'paused' then call('HSET', key, 'state', 'held', 'entry', '') end
    return nil
  end
  local ms, attempt = now(), t[4] + 1
  call('HSET', key, 'state', 'running', 'attempt', attempt, 'worker', worker, 'nonce', nonce,
    'lease_until', ms + lease_ms, 'started_at', ms)
  call('ZADD', P .. 'leases', ms + lease_ms, task)
  call('ZREM', P .. 'patience', task)
  for _, path in ipairs(cjson.decode(t[6])) do start_node(t[3], path, attempt, ms) end
  return {task, attempt, t[5], t[8], ms - t[7]}
end

local function taken_before(worker, nonce)
  local again = {}
  for task in string.gmatch(call('HGET', P .. 'worker:' .. worker, 'took') or '', '[^\n]+') do
    local t = call('HMGET', P .. 'task:' .. task, 'nonce', 'state', 'attempt', 'body', 'queue')
    if t[1] == nonce and t[2] == 'running' then again[#again + 1] = {task, tonumber(t[3]), t[4], t[5], 0} end
  end
  return again
end

local function read_group(stream, worker, count)
  local reply = redis.pcall('XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', count, 'STREAMS', stream, '>')
  if reply and reply.err then
    call('XGROUP', 'CREATE', stream, GROUP, '0', 'MKSTREAM')
    reply = call('XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', count, 'STREAMS', stream, '>')
  end
  return reply and reply[1][2] or {}
end

-- How many entries of a stream are taken, and from where on they are not.
local function group_state(stream)
  local taken, last = 0, '-'
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  for _, group in ipairs(groups.err and {} or groups) do
    for i = 1, #group, 2 do
      if group[i] == 'pending' then taken = group[i + 1] end
      if group[i] == 'last-delivered-id' then last = '(' .. group[i + 1] end
    end
  end
  return taken, last
end

-- The first entry that nobody has read, or nil.
local function head(stream)
  local _, last = group_state(stream)
  return call('XRANGE', stream, last, '+', 'COUNT', 1)[1]
end

local function older(one, other)
  local ms, count = string.match(one, '(%d+)-(%d+)')
  local other_ms, other_count = string.match(other, '(%d+)-(%d+)')
  if ms == other_ms then return tonumber(count) <= tonumber(other_count) end
  return tonumber(ms) < tonumber(other_ms)
end

-- Reads what came first: from one stream as many as are wanted, from two one by one.
local function read_next(queue, worker, want)
  local plain, frames = stream_of(queue), stream_of(queue, 'frames')
  if call('XLEN', frames) == 0 then return plain, read_group(plain, worker, want) end
  local a, b = head(plain), head(frames)
  if not b then return plain, read_group(plain, worker, want) end
  if not a then return frames, read_group(frames, worker, want) end
  local stream = older(a[1], b[1]) and plain or frames
  return stream, read_group(stream, worker, 1)
end

-- worker, nonce, lease ms, then for each queue: name, count -> list of {task, attempt, body, queue, waited ms}
-- A worker that was forgotten gets nothing: its next beat tells it to register again.
function ops.take()
  local worker, nonce, lease_ms = ARGV[2], ARGV[3], tonumber(ARGV[4])
  local me = P .. 'worker:' .. worker
  if not call('ZSCORE', P .. 'workers', worker) then return {} end
  if call('HGET', me, 'nonce') == nonce then return taken_before(worker, nonce) end
  local took, names = {}, {}
  for i = 5, #ARGV, 2 do
    local queue, want = ARGV[i], tonumber(ARGV[i + 1])
    while want > 0 do
      local stream, entries = read_next(queue, worker, want)
      if #entries == 0 then break end
      for _, entry in ipairs(entries) do
        local got = take_entry(worker, nonce, lease_ms, stream, entry[1], entry[2][2])
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
  call('ZADD', P .. 'workers', 'XX', ms + ARGV[4], ARGV[2])
  local reply = {call('ZSCORE', P .. 'workers', ARGV[2]) and 1 or 0}
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
-- a start), event data -> 'ok' | 'repeat' | 'stale' | 'ended' | 'deleting' (write the bytes again, then commit again)
function ops.commit()
  local task, attempt, nonce = ARGV[2], ARGV[3], ARGV[4]
  local t, why = fence(task, attempt, nonce)
  if not t then return why end
  for i = 6, #ARGV, 3 do
    if not pardon(ARGV[i + 1]) then return 'deleting' end
  end
  local ms, kept, flies = now(), {}, call('EXISTS', P .. 'flights:' .. task) == 1
  for i = 6, #ARGV, 3 do
    if ARGV[i + 1] == '' then
      start_node(t.run, ARGV[i], attempt, ms)
    else
      local text = end_node(t.run, ARGV[i], attempt, ARGV[i + 1], ARGV[i + 2], ms)
      if text then kept[#kept + 1] = '"' .. ARGV[i] .. '":' .. text end
      if flies then landed(task, ARGV[i], ARGV[i + 1]) end
    end
  end
  if #kept > 0 then
    wake(t.run, call('HGET', P .. 'run:' .. t.run, 'owner'), 'outcomes', '{' .. table.concat(kept, ',') .. '}')
  end
  if ARGV[5] == '1' then
    call('HSET', P .. 'task:' .. task, 'state', 'done', 'body', '')
    call('ZREM', P .. 'leases', task)
    leave_stream(P .. 'task:' .. task)
    pump(t.queue)
    if flies then leave_flights(task) end
  end
  return 'ok'
end

-- Fails what is still open of a task and tells the driver. `letter`: also keep it among the dead, with its history.
local function give_up(task, key, problem, letter)
  local t = call('HMGET', key, 'run', 'queue', 'paths', 'attempt', 'tenant', 'history')
  local ms, kept = now(), {}
  for _, path in ipairs(cjson.decode(t[3])) do
    local text = end_node(t[1], path, t[4], '{"status":"failed","problem":' .. problem .. '}', '{"problem":' .. problem .. '}', ms)
    if text then kept[#kept + 1] = '"' .. path .. '":' .. text end
  end
  leave_stream(key)
  call('ZREM', P .. 'lane:' .. t[2] .. ':' .. (t[5] or ''), task)
  call('HSET', key, 'state', 'dead', 'body', '', 'entry', '')
  if letter then
    call('XADD', P .. 'dead', 'MAXLEN', '~', 10000, '*', 'run', t[1], 'task', task, 'tenant', t[5] or 'default',
      'queue', t[2],
      'paths', t[3], 'attempt', t[4], 'problem', problem, 'history', '[' .. (t[6] or '') .. ']')
  end
  wake(t[1], call('HGET', P .. 'run:' .. t[1], 'owner'), 'outcomes', '{' .. table.concat(kept, ',') .. '}')
  pump(t[2])
  leave_flights(task)
end

-- Ends an attempt that did not end its task: its lease and stream entry go, its running nodes are queued again.
local function end_attempt(task, key, cause)
  local t = call('HMGET', key, 'run', 'queue', 'paths', 'attempt', 'worker', 'history')
  call('ZREM', P .. 'leases', task)
  leave_stream(key)
  local past = '{"attempt":' .. t[4] .. ',"cause":"' .. cause .. '","worker":' .. cjson.encode(t[5] or '') .. ',"at":' .. now() .. '}'
  local history = t[6] and t[6] ~= '' and (t[6] .. ',' .. past) or past
  call('HSET', key, 'entry', '', 'history', #history <= 8192 and history or past)
  for _, path in ipairs(cjson.decode(t[3])) do
    local old = call('HGET', P .. 'ledger:' .. t[1], path)
    if status_of(old) == 'running' then
      call('HSET', P .. 'ledger:' .. t[1], path, '{"status":"queued","attempt":' .. t[4] .. '}')
      emit(t[1], 'node.retrying', path, t[4], '{"cause":"' .. cause .. '","worker":' .. cjson.encode(t[5] or '') .. '}')
    end
  end
  leave_flights(task)
  return t[1], t[2]
end

-- Another attempt after so many milliseconds.
local function again(task, key, queue, delay)
  if delay > 0 then
    call('HSET', key, 'state', 'waiting')
    call('ZADD', P .. 'timers', now() + delay, task)
  else
    offer(task, key)
  end
  pump(queue)
end

-- Budgets by cause: crashes as the run's plan says, drains 100 (a fleet that restarts for ever is a fault as well).
-- The first crash is tried again at once, later ones wait 1, 2, 4 … 60 s: a poison task must not keep workers busy.
local DRAIN_BUDGET, LONGEST_MS = 100, 60000
local function interrupted(task, key, cause, problem)
  local count = call('HINCRBY', key, cause, 1)
  local budget = cause == 'crash' and tonumber(call('HGET', key, 'crash_budget')) or DRAIN_BUDGET
  local _, queue = end_attempt(task, key, cause)
  if count >= budget then return give_up(task, key, problem, true) end
  local crashed = cause == 'crash' and count > 1
  again(task, key, queue, crashed and math.min(LONGEST_MS, 1000 * 2 ^ (count - 2)) or 0)
end

-- task, attempt, nonce, cause, delay ms, problem of a spent budget, then for each node that is to be tried again after an
-- error: path, event data -> 'ok' | …
function ops.give_back()
  local task, key, cause = ARGV[2], P .. 'task:' .. ARGV[2], ARGV[5]
  local t, why = fence(task, ARGV[3], ARGV[4])
  if not t then return why end
  if cause ~= 'error' then
    interrupted(task, key, cause, ARGV[7])
    return 'ok'
  end
  for i = 8, #ARGV, 2 do
    call('HINCRBY', key, 'errors:' .. ARGV[i], 1)
    if not TERMINAL[status_of(call('HGET', P .. 'ledger:' .. t.run, ARGV[i]))] then  -- else a copy, or made for a handle
      call('HSET', P .. 'ledger:' .. t.run, ARGV[i], '{"status":"waiting","attempt":' .. ARGV[3] .. '}')
      emit(t.run, 'node.retrying', ARGV[i], ARGV[3], ARGV[i + 1])
    end
  end
  end_attempt(task, key, cause)
  again(task, key, t.queue, tonumber(ARGV[6]))
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

local ASKED = '^{"status":"waiting","for":"answer"'

-- A node asks a person: the question stands in the ledger until there is an answer.
local function ask(run, path, question, data)
  local old = call('HGET', P .. 'ledger:' .. run, path)
  if TERMINAL[status_of(old)] or (old and string.find(old, ASKED)) then return end
  call('HSET', P .. 'ledger:' .. run, path, question)
  emit(run, 'node.waiting', path, 0, data)
end

-- run, epoch, then for each node: path, outcome ('' for a start), event data. What the driver itself decides.
function ops.settle()
  local no = drive_right(ARGV[2], ARGV[3])
  if no then return no end
  local ms = now()
  for i = 4, #ARGV, 3 do
    if ARGV[i + 1] == '' then
      start_node(ARGV[2], ARGV[i], 0, ms)
    elseif status_of(ARGV[i + 1]) == 'waiting' then
      ask(ARGV[2], ARGV[i], ARGV[i + 1], ARGV[i + 2])
    else
      end_node(ARGV[2], ARGV[i], 0, ARGV[i + 1], ARGV[i + 2], ms)
    end
  end
  return 'ok'
end

-- run, path, outcome, event data: a person answers -> 'ok' | 'not-waiting' | 'missing' | 'parking' | 'deleting' | the
-- status in which the run ended. The first answer counts.
function ops.answer()
  local run, path = ARGV[2], ARGV[3]
  local r = call('HMGET', P .. 'run:' .. run, 'status', 'owner')
  if not r[1] then return 'missing' end
  if r[1] == 'parking' or TERMINAL[r[1]] then return r[1] end
  if not string.find(call('HGET', P .. 'ledger:' .. run, path) or '', ASKED) then return 'not-waiting' end
  if not pardon(ARGV[4]) then return 'deleting' end
  local text = end_node(run, path, 0, ARGV[4], ARGV[5], now())
  wake(run, r[2], 'outcomes', '{"' .. path .. '":' .. text .. '}')
  return 'ok'
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
  local r = call('HMGET', key, 'status', 'epoch', 'owner', 'tenant')
  if not r[1] then return 'missing' end
  if TERMINAL[r[1]] or r[1] == 'parking' then return r[1] end
  if ARGV[3] ~= '' and ARGV[3] ~= r[2] then return refuse() end
  local ms = now()
  call('HSET', key, 'status', ARGV[4], 'ended_at', ms, 'ending', ARGV[5])
  end_tasks(run)
  close_ledger(run, ms)
  call('ZREM', P .. 'line:' .. r[4], run)
  emit(run, 'run.' .. ARGV[4], '', 0, ARGV[5])
  call('PUBLISH', P .. 'stopped', run)
  if ARGV[3] == '' then wake(run, r[3], 'news', ARGV[4]) end
  return 'ok'
end

-- run, milliseconds: the database has it all, Redis may forget it then.
function ops.archive()
  for _, kind in ipairs({'run:', 'ledger:', 'events:'}) do call('PEXPIRE', P .. kind .. ARGV[2], ARGV[3]) end
  return 'ok'
end

-- run -> 'paused' | 'missing' | 'parking' | the status in which it is. Running tasks end, none is taken any more.
function ops.pause()
  local run, key = ARGV[2], P .. 'run:' .. ARGV[2]
  local r = call('HMGET', key, 'status', 'owner', 'tenant')
  if not r[1] then return 'missing' end
  if r[1] ~= 'running' and r[1] ~= 'queued' then return r[1] end
  call('HSET', key, 'status', 'paused')
  call('ZREM', P .. 'line:' .. r[3], run)
  emit(run, 'run.paused', '', 0, '{}')
  wake(run, r[2], 'news', 'paused')
  return 'paused'
end

-- run -> 'resumed' | 'missing' | 'parking' | the status in which it is
function ops.resume()
  local run, key = ARGV[2], P .. 'run:' .. ARGV[2]
  local r = call('HMGET', key, 'status', 'owner', 'tenant', 'weight', 'priority')
  if not r[1] then return 'missing' end
  if r[1] ~= 'paused' then return r[1] end
  if r[2] == '' then
    call('HSET', key, 'status', 'queued')
    lane_add('line', r[3], r[4], place(r[5]), run)
    emit(run, 'run.queued', '', 0, '{"resumed":true}')
    return 'resumed'
  end
  call('HSET', key, 'status', 'running')
  emit(run, 'run.started', '', 0, '{"resumed":true}')
  local queues = {}
  for _, name in ipairs(call('SMEMBERS', P .. 'tasks:' .. run)) do
    local task = P .. 'task:' .. run .. '/' .. name
    if call('HGET', task, 'state') == 'held' then queues[offer(run .. '/' .. name, task)] = true end
  end
  for queue in pairs(queues) do pump(queue) end
  wake(run, r[2], 'news', 'resumed')
  return 'resumed'
end

-- Whether a run only waits for the answers to these questions: none was answered, and no task is under way.
local function only_asks(run, first)
  for i = first, #ARGV do
    if not string.find(call('HGET', P .. 'ledger:' .. run, ARGV[i]) or '', ASKED) then return false end
  end
  for _, name in ipairs(call('SMEMBERS', P .. 'tasks:' .. run)) do
    local state = call('HGET', P .. 'task:' .. run .. '/' .. name, 'state')
    if state and state ~= 'done' and state ~= 'dead' then return false end
  end
  return true
end

-- run, epoch, then paths that wait for answers (none: it must be paused) -> 'parking' (nothing can change it any more)
-- | 'busy' (tasks run, or there was an answer) | 'stale' | 'missing' | its status
function ops.park()
  local run, key = ARGV[2], P .. 'run:' .. ARGV[2]
  local r = call('HMGET', key, 'status', 'epoch')
  if not r[1] then return 'missing' end
  if r[2] ~= ARGV[3] then return refuse() end
  if r[1] == 'running' and #ARGV > 3 then
    if not only_asks(run, 4) then return 'busy' end
    emit(run, 'run.paused', '', 0, '{"reason":"it waits for an answer"}')
    call('HSET', key, 'status', 'parking', 'asks', 1)
    return 'parking'
  end
  if r[1] ~= 'paused' then return r[1] end
  for _, name in ipairs(call('SMEMBERS', P .. 'tasks:' .. run)) do
    if call('HGET', P .. 'task:' .. run .. '/' .. name, 'state') == 'running' then return 'busy' end
  end
  call('HSET', key, 'status', 'parking')
  return 'parking'
end

-- run, epoch: the database has it all -> 'ok' | 'stale' | 'missing' | its status
function ops.parked()
  local run, key = ARGV[2], P .. 'run:' .. ARGV[2]
  local r = call('HMGET', key, 'status', 'epoch')
  if not r[1] then return 'missing' end
  if r[2] ~= ARGV[3] then return refuse() end
  if r[1] ~= 'parking' then return r[1] end
  end_tasks(run)
  call('DEL', key, P .. 'ledger:' .. run, P .. 'events:' .. run)
  return 'ok'
end

-- What reconciling a run's task finds: each state has its place, and a task that is not there is put there.
local function mend(run, name, ms)
  local task = run .. '/' .. name
  local key = P .. 'task:' .. task
  local t = call('HMGET', key, 'state', 'queue', 'entry', 'tenant', 'form')
  if t[1] == 'running' and not call('ZSCORE', P .. 'leases', task) then
    call('ZADD', P .. 'leases', ms, task)
  elseif t[1] == 'waiting' and not call('ZSCORE', P .. 'timers', task) then
    call('ZADD', P .. 'timers', ms, task)
  elseif t[1] == 'held' and call('HGET', P .. 'run:' .. run, 'status') == 'running' then
    offer(task, key)
  elseif t[1] == 'ready' and t[3] == '' and not call('ZSCORE', P .. 'lane:' .. t[2] .. ':' .. (t[4] or ''), task) then
    offer(task, key)
  elseif t[1] == 'ready' and t[3] ~= '' and #call('XRANGE', stream_of(t[2], t[5]), t[3], t[3]) == 0 then
    offer(task, key)
  else
    return nil
  end
  return t[2]
end

-- run, epoch -> how many tasks were not where their state says, or the answer why not. Also pumps the queues concerned.
function ops.audit()
  local no = drive_right(ARGV[2], ARGV[3])
  if no then return no end
  local mended, ms = 0, now()
  for _, name in ipairs(call('SMEMBERS', P .. 'tasks:' .. ARGV[2])) do
    local queue = mend(ARGV[2], name, ms)
    if queue then
      mended = mended + 1
      pump(queue)
    end
  end
  return mended
end

local function drop_consumers(queue, unwanted)
  for _, form in ipairs(FORMS) do
    local stream = stream_of(queue, form)
    local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, GROUP)
    for _, c in ipairs(consumers.err and {} or consumers) do
      if c[4] == 0 and unwanted(c[2]) then call('XGROUP', 'DELCONSUMER', stream, GROUP, c[2]) end
    end
  end
end

-- Counts the slots of live workers anew, and removes consumers that died while they held entries.
function ops.tidy()
  local slots, framed = {}, {}
  for _, queue in ipairs(call('HKEYS', P .. 'slots')) do slots[queue] = 0 end
  for _, worker in ipairs(call('ZRANGE', P .. 'workers', 0, -1)) do
    local text, forms = unpack(call('HMGET', P .. 'worker:' .. worker, 'slots', 'forms'))
    for queue, count in pairs(text and cjson.decode(text) or {}) do
      slots[queue] = (slots[queue] or 0) + count
      framed[queue] = (framed[queue] or 0) + (forms and count or 0)
    end
  end
  for queue, count in pairs(slots) do
    call('HSET', P .. 'slots', queue, count)
    call('HSET', P .. 'slots:frames', queue, framed[queue] or 0)
    drop_consumers(queue, function(name) return not call('ZSCORE', P .. 'workers', name) end)
    pump(queue)
  end
  return 'ok'
end

-- runs -> for each {status or false, owner, epoch, 1 if it has no time to live}
function ops.look()
  local found = {}
  for i = 2, #ARGV do
    local key = P .. 'run:' .. ARGV[i]
    local r = call('HMGET', key, 'status', 'owner', 'epoch')
    found[#found + 1] = {r[1], r[2] or '', r[3] or 0, call('PTTL', key) == -1 and 1 or 0}
  end
  return found
end

-- run: its hash is gone (lost, or never written) -> 1 if anything was left of it
function ops.clear()
  local run = ARGV[2]
  if call('EXISTS', P .. 'run:' .. run) == 1 then return 0 end
  end_tasks(run)
  return call('DEL', P .. 'ledger:' .. run, P .. 'events:' .. run)
end

-- run, ms: nobody accepted it, so no row was written in that time -> 1 if it was old enough and is gone now
function ops.abandon()
  local run, key = ARGV[2], P .. 'run:' .. ARGV[2]
  local r = call('HMGET', key, 'created_at', 'tenant')
  if not r[1] or tonumber(r[1]) + ARGV[3] > now() then return 0 end
  for _, name in ipairs(call('SMEMBERS', P .. 'tasks:' .. run)) do end_task(run, name) end
  if r[2] then call('ZREM', P .. 'line:' .. r[2], run) end
  call('DEL', key, P .. 'ledger:' .. run, P .. 'events:' .. run, P .. 'tasks:' .. run, P .. 'ticks:' .. run)
  return 1
end

local function forget(worker)
  local slots, forms = unpack(call('HMGET', P .. 'worker:' .. worker, 'slots', 'forms'))
  call('ZREM', P .. 'workers', worker)
  if not slots then return end
  for queue, count in pairs(cjson.decode(slots)) do
    call('HINCRBY', P .. 'slots', queue, -count)
    if forms then call('HINCRBY', P .. 'slots:frames', queue, -count) end
    drop_consumers(queue, function(name) return name == worker end)
  end
  call('DEL', P .. 'worker:' .. worker)
end

local function due(set, ms, most)
  return call('ZRANGEBYSCORE', P .. set, '-inf', ms, 'LIMIT', 0, most)
end

-- Nobody took it in the time it may wait.
local function expire(task, problem)
  local key = P .. 'task:' .. task
  call('ZREM', P .. 'patience', task)
  if call('HGET', key, 'state') == 'ready' then give_up(task, key, problem, false) end
end

-- most, problem of a spent crash budget, problem of a task that waited too long -> how many timers, leases and workers
-- were seen to, then the controls whose lease lapsed
function ops.sweep()
  local ms, most = now(), ARGV[2]
  local gone = due('workers', ms, most)  -- first, so that nothing is pumped for their slots
  for _, worker in ipairs(gone) do forget(worker) end
  local timers = due('timers', ms, most)
  for _, task in ipairs(timers) do
    call('ZREM', P .. 'timers', task)
    local key = P .. 'task:' .. task
    if call('HGET', key, 'state') == 'waiting' and not look_again(task, key, ms) then pump(offer(task, key)) end
  end
  for _, task in ipairs(due('patience', ms, most)) do expire(task, ARGV[4]) end
  local lapsed = due('leases', ms, most)
  for _, task in ipairs(lapsed) do
    call('ZREM', P .. 'leases', task)
    call('HINCRBY', P .. 'counters', 'leases_lapsed', 1)
    local key = P .. 'task:' .. task
    if call('HGET', key, 'state') == 'running' then interrupted(task, key, 'crash', ARGV[3]) end
  end
  for _, queue in ipairs(call('HKEYS', P .. 'slots')) do pump(queue) end  -- older workers do not know lanes
  local reply = {#timers, #lapsed, #gone}
  for _, owner in ipairs(due('controls', ms, most)) do reply[#reply + 1] = owner end
  return reply
end

-- worker, expiry ms, manifest, slots (JSON object)
function ops.register()
  local worker = ARGV[2]
  forget(worker)
  call('HSET', P .. 'worker:' .. worker, 'manifest', ARGV[4], 'slots', ARGV[5], 'since', now(), 'forms', 'frames')
  call('ZADD', P .. 'workers', now() + ARGV[3], worker)
  for queue, count in pairs(cjson.decode(ARGV[5])) do
    call('HINCRBY', P .. 'slots', queue, count)
    call('HINCRBY', P .. 'slots:frames', queue, count)
    redis.pcall('XGROUP', 'CREATE', stream_of(queue), GROUP, '0', 'MKSTREAM')
    pump(queue)
  end
  return 'ok'
end

-- worker
function ops.unregister()
  forget(ARGV[2])
  return 'ok'
end

-- owner, expiry ms
function ops.control_beat()
  call('ZADD', P .. 'controls', now() + ARGV[3], ARGV[2])
  return 'ok'
end

-- owner: its runs are adopted, or it said goodbye
function ops.control_gone()
  call('ZREM', P .. 'controls', ARGV[2])
  call('DEL', P .. 'drive:' .. ARGV[2])
  return 'ok'
end

-- run -> 1 if it runs, yet none of its tasks is under way or waits for anything: only its driver can bring it on
function ops.idle()
  if call('HGET', P .. 'run:' .. ARGV[2], 'status') ~= 'running' then return 0 end
  for _, name in ipairs(call('SMEMBERS', P .. 'tasks:' .. ARGV[2])) do
    local state = call('HGET', P .. 'task:' .. ARGV[2] .. '/' .. name, 'state')
    if state and state ~= 'done' and state ~= 'dead' then return 0 end
  end
  return 1
end

-- queue -> {ready, in its streams, of these taken, ms that the one that waits longest has waited, mark of the last take}
function ops.queue_state()
  local queue, bound, taken, marks, heads = ARGV[2], 0, 0, '', {}
  for _, form in ipairs(FORMS) do
    local stream = stream_of(queue, form)
    local read, last = group_state(stream)
    local entry = call('XRANGE', stream, last, '+', 'COUNT', 1)[1]
    bound, taken, marks = bound + call('XLEN', stream), taken + read, marks .. last
    if entry then heads[#heads + 1] = entry[2][2] end
  end
  for _, tenant in ipairs(call('ZRANGE', P .. 'lane:' .. queue, 0, 99)) do
    heads[#heads + 1] = call('ZRANGE', P .. 'lane:' .. queue .. ':' .. tenant, 0, 0)[1]
  end
  local ms, oldest = now(), 0
  for _, task in ipairs(heads) do
    oldest = math.max(oldest, ms - (call('HGET', P .. 'task:' .. task, 'ready_at') or ms))
  end
  return {lane_count('lane:' .. queue), bound, taken, oldest, marks}
end

-- task -> {state, queue, attempt, worker, history, its place in its tenant's lane from 1 on (0: in the stream, or not
-- waiting), how many of the tenant wait in that lane, the queue's slots, ms when its timer is due}, or false
function ops.place()
  local task, t = ARGV[2], call('HMGET', P .. 'task:' .. ARGV[2], 'state', 'queue', 'attempt', 'worker', 'history', 'tenant')
  if not t[1] then return false end
  local lane = 'lane:' .. t[2] .. ':' .. (t[6] or '')
  local rank = call('ZRANK', P .. lane, task)
  return {t[1], t[2], tonumber(t[3] or 0), t[4] or '', t[5] or '', rank and rank + 1 or 0, call('ZCARD', P .. lane),
    tonumber(call('HGET', P .. 'slots', t[2]) or 0), tonumber(call('ZSCORE', P .. 'timers', task) or 0)}
end

-- Garbage collection, in two steps around the caller's second look at what is referenced. Each collection has a name,
-- so that a frozen one that comes back cannot use what another one condemned.

-- collection, lease ms, ms between the end of one and the next -> 1 if it may begin
function ops.collect()
  local last = call('GET', P .. 'collected')
  if last and now() - last < tonumber(ARGV[4]) then return 0 end
  if call('SET', P .. 'collecting', ARGV[2], 'NX', 'PX', ARGV[3]) then return 1 end
  return call('GET', P .. 'collecting') == ARGV[2] and 1 or 0
end

-- collection, lease ms -> 1 if it is still the one
function ops.collecting()
  if call('GET', P .. 'collecting') ~= ARGV[2] then return 0 end
  return call('PEXPIRE', P .. 'collecting', ARGV[3])
end

-- collection, '1' if it came to its end
function ops.collected()
  if call('GET', P .. 'collecting') ~= ARGV[2] then return 'stale' end
  call('DEL', P .. 'collecting', P .. 'condemned')
  if ARGV[3] == '1' then call('SET', P .. 'collected', now()) end
  return 'ok'
end

-- collection, digests: from now on whoever names one of them saves it
function ops.condemn()
  for i = 3, #ARGV do call('HSET', P .. 'condemned', ARGV[i], ARGV[2]) end
  call('PEXPIRE', P .. 'condemned', 3600000)
  return 'ok'
end

-- 1: its bytes may be put now, and stay for ten minutes at least; 0: they are being deleted, ask again
local function spare(digest, ms)
  if being_deleted(digest) then return 0 end
  call('HDEL', P .. 'condemned', digest)
  call('ZREMRANGEBYSCORE', P .. 'spared', '-inf', ms)
  call('ZADD', P .. 'spared', ms + SPARE_MS, digest)
  call('PEXPIRE', P .. 'spared', SPARE_MS)
  return 1
end

-- digests -> 1 | 0 if any of them is being deleted
function ops.spare()
  local ms = now()
  for i = 2, #ARGV do
    if spare(ARGV[i], ms) == 0 then return 0 end
  end
  return 1
end

-- collection, digest -> when its deletion began, or 0 if its bytes must stay: someone named or put them since. Nobody
-- can until `deleted`.
function ops.execute()
  if call('HGET', P .. 'condemned', ARGV[3]) ~= ARGV[2] then return 0 end
  call('HDEL', P .. 'condemned', ARGV[3])
  local ms = now()
  if tonumber(call('ZSCORE', P .. 'spared', ARGV[3]) or 0) > ms then return 0 end
  call('ZADD', P .. 'deleting', ms, ARGV[3])
  call('PEXPIRE', P .. 'deleting', DELETE_MS)
  return ms
end

-- digest, when its deletion began
function ops.deleted()
  if call('ZSCORE', P .. 'deleting', ARGV[2]) == ARGV[3] then call('ZREM', P .. 'deleting', ARGV[2]) end
  return 'ok'
end

-- The content cache (design, section 8). A name is tenant:type:key. While a node is computed there is a `flight` under
-- its name; its leader is a task in one attempt, or one that was roused for it and has yet to be taken. Who wants the
-- same meanwhile is handed back and waits, holding nothing. Whether a leader lives is read off its task; timers only
-- look again. `flights:{task}` holds what becomes an entry once it is committed: path -> name.
local ENTRY_MS, ENTRY_BYTES, FLIGHT_MS = 3600000, 16384, 86400000
local ROUSED_MS, LOOK_AGAIN_MS = 10000, 5000

local function leader_of(name, ms)
  local f = call('HMGET', P .. 'flight:' .. name, 'task', 'attempt', 'since')
  if not f[1] then return nil end
  local t = call('HMGET', P .. 'task:' .. f[1], 'state', 'attempt', 'lease_until')
  local runs = t[1] == 'running' and t[2] == f[2] and tonumber(t[3]) > ms
  local comes = t[1] == 'ready' and t[2] + 1 == tonumber(f[2]) and f[3] + ROUSED_MS > ms
  return (runs or comes) and f[1] or nil
end

local function lead(name, task, attempt, path, ms)
  call('HSET', P .. 'flight:' .. name, 'task', task, 'attempt', attempt, 'since', ms)
  call('PEXPIRE', P .. 'flight:' .. name, FLIGHT_MS)
  call('HSET', P .. 'flights:' .. task, path, name)
  call('PEXPIRE', P .. 'flights:' .. task, FLIGHT_MS)
end

function unwait(task, key)
  local waits = call('HGET', key, 'waits')
  if not waits then return end
  for name in string.gmatch(waits, '[^\n]+') do call('ZREM', P .. 'waiters:' .. name, task) end
  call('HDEL', key, 'waits')
  call('ZREM', P .. 'timers', task)
end

-- Has a waiter look again, by way of its lane -> whether it may be taken now.
local function rouse(task)
  local key = P .. 'task:' .. task
  local t = call('HMGET', key, 'state', 'run')
  local status = t[2] and call('HGET', P .. 'run:' .. t[2], 'status')
  if t[1] ~= 'waiting' or (status ~= 'running' and status ~= 'paused') then return false end
  unwait(task, key)
  pump(offer(task, key))
  return call('HGET', key, 'state') == 'ready'
end

-- A leader goes without a result: the next one in line leads.
local function release(name, task)
  if call('HGET', P .. 'flight:' .. name, 'task') ~= task then return end
  call('DEL', P .. 'flight:' .. name)
  while true do
    local popped = call('ZPOPMIN', P .. 'waiters:' .. name)
    if #popped == 0 then return end
    if rouse(popped[1]) then
      return lead(name, popped[1], call('HGET', P .. 'task:' .. popped[1], 'attempt') + 1, '~' .. name, now())
    end
  end
end

function leave_flights(task)
  local names = call('HVALS', P .. 'flights:' .. task)
  if #names == 0 then return end
  call('DEL', P .. 'flights:' .. task)
  for _, name in ipairs(names) do release(name, task) end
end

-- A node of a task ended: what completed is kept and all who wait look again.
function landed(task, path, outcome)
  local name = call('HGET', P .. 'flights:' .. task, path)
  if not name then return end
  call('HDEL', P .. 'flights:' .. task, path)
  if status_of(outcome) ~= 'completed' then return release(name, task) end
  if #outcome <= ENTRY_BYTES then call('SET', P .. 'cache:' .. name, outcome, 'PX', ENTRY_MS) end
  call('DEL', P .. 'flight:' .. name)
  local waiters = call('ZRANGE', P .. 'waiters:' .. name, 0, -1)
  call('DEL', P .. 'waiters:' .. name)
  for _, waiter in ipairs(waiters) do rouse(waiter) end
end

-- A waiter's timer is due -> whether that was seen to: it waits on while all that it waits for are still computed.
function look_again(task, key, ms)
  local waits = call('HGET', key, 'waits')
  if not waits then return false end
  local still, orphans = true, {}
  for name in string.gmatch(waits, '[^\n]+') do
    if call('EXISTS', P .. 'cache:' .. name) == 1 then
      still = false
    elseif not leader_of(name, ms) then
      orphans[#orphans + 1] = name
    end
  end
  if still and #orphans == 0 then
    call('ZADD', P .. 'timers', ms + LOOK_AGAIN_MS, task)
  elseif rouse(task) then
    for _, name in ipairs(orphans) do lead(name, task, call('HGET', key, 'attempt') + 1, '~' .. name, ms) end
  elseif call('HGET', key, 'state') == 'waiting' then
    call('ZADD', P .. 'timers', ms + LOOK_AGAIN_MS, task)
  end
  return true
end

local function spare_all(text, ms)
  for digest in string.gmatch(text, 'sha256:%x+') do
    if spare(digest, ms) == 0 then return false end
  end
  return true
end

local function count_looks(tenant, hits, misses)
  if hits ~= 0 then call('HINCRBY', P .. 'cache_counts:' .. tenant, 'hits', hits) end
  if misses ~= 0 then call('HINCRBY', P .. 'cache_counts:' .. tenant, 'misses', misses) end
end

-- task, attempt, nonce, then for each node: path, type:key, '1' if others shall wait for it -> {tenant, then for each:
-- the outcome that is kept | 'lead' (compute it) | 'wait' (another does)} | why not
function ops.cache_look()
  local task = ARGV[2]
  local t, why = fence(task, ARGV[3], ARGV[4])
  if not t then return why end
  local tenant, ms, hits, misses = call('HGET', P .. 'task:' .. task, 'tenant') or 'default', now(), 0, 0
  local reply = {tenant}
  for i = 5, #ARGV, 3 do
    local name = tenant .. ':' .. ARGV[i + 1]
    local kept = call('GET', P .. 'cache:' .. name)
    local leader = ARGV[i + 2] == '1' and leader_of(name, ms)
    if kept and spare_all(kept, ms) then
      reply[#reply + 1], hits = kept, hits + 1
    elseif leader and leader ~= task then
      reply[#reply + 1] = 'wait'
    elseif ARGV[i + 2] == '1' then
      lead(name, task, ARGV[3], ARGV[i], ms)
      reply[#reply + 1], misses = 'lead', misses + 1
    else
      call('HSET', P .. 'flights:' .. task, ARGV[i], name)
      call('PEXPIRE', P .. 'flights:' .. task, FLIGHT_MS)
      reply[#reply + 1], misses = 'lead', misses + 1
    end
  end
  count_looks(tenant, hits, misses)
  return reply
end

-- task, attempt, nonce, path, outcome: its leader found it in the object store -> 'ok' | 'deleting' | why not
function ops.cache_found()
  local task = ARGV[2]
  local t, why = fence(task, ARGV[3], ARGV[4])
  if not t then return why end
  if not spare_all(ARGV[6], now()) then return 'deleting' end
  landed(task, ARGV[5], ARGV[6])
  count_looks(call('HGET', P .. 'task:' .. task, 'tenant') or 'default', 1, -1)
  return 'ok'
end

-- tenant, type:key, outcome: the bytes that it names are gone
function ops.cache_lost()
  local name = P .. 'cache:' .. ARGV[2] .. ':' .. ARGV[3]
  if call('GET', name) == ARGV[4] then call('DEL', name) end
  count_looks(ARGV[2], -1, 0)
  return 'ok'
end

-- task, attempt, nonce, then for each node that another computes: path, type:key. The task is handed back until one of
-- them has ended; no budget is spent -> 'ok' | why not
function ops.cache_wait()
  local task, key, ms = ARGV[2], P .. 'task:' .. ARGV[2], now()
  local t, why = fence(task, ARGV[3], ARGV[4])
  if not t then return why end
  local tenant, names, flying = call('HGET', key, 'tenant') or 'default', {}, true
  for i = 5, #ARGV, 2 do
    local ledger, name = P .. 'ledger:' .. t.run, tenant .. ':' .. ARGV[i + 1]
    if not TERMINAL[status_of(call('HGET', ledger, ARGV[i]))] then
      call('HSET', ledger, ARGV[i], '{"status":"waiting","attempt":' .. ARGV[3] .. ',"reason":"computed-elsewhere"}')
      emit(t.run, 'node.waiting', ARGV[i], ARGV[3], '{"reason":"computed-elsewhere"}')
    end
    names[#names + 1] = name
  end
  end_attempt(task, key, 'cache')
  for _, name in ipairs(names) do
    if call('EXISTS', P .. 'cache:' .. name) == 1 or not leader_of(name, ms) then flying = false end
  end
  if flying then
    for _, name in ipairs(names) do call('ZADD', P .. 'waiters:' .. name, ms, task) end
    call('HSET', key, 'state', 'waiting', 'waits', table.concat(names, '\n'))
    call('ZADD', P .. 'timers', ms + LOOK_AGAIN_MS, task)
  else
    offer(task, key)
  end
  pump(t.queue)
  return 'ok'
end

return ops[ARGV[1]]()
