-- KEYS: locks, fences, reverse mappings. ARGV: for how long fences stay in ms ('0': for ever), then of each
-- lock id, ttl in ms, key as JSON text. A lock may be there several times: they are answered in turn.
-- The time in ms, and for each: granted with its fence as text, held { free in ms }, or false for what
-- acquire.lua has to decide: a repeat, what can't be read, and what may be of another type.
local retention, count = ARGV[1], (#ARGV - 1) / 3
local found = redis.call('MGET', unpack(KEYS, 1, 2 * count))
local clock, now, now_text = read_clock()
local clock_number = tonumber(clock)
local answers, fences, last_fence = { now_text }, {}, 0
-- Of each lock: who is granted it here; and who else has it, with what the others hear.
local winners, holders = {}, {}

for i = 1, count do
  local lock, owner = KEYS[i], ARGV[3 * i - 1]
  local winner, holder = winners[lock], holders[lock]
  local answer = false
  if winner then
    if ARGV[3 * winner - 1] ~= owner then answer = { tonumber(ARGV[3 * winner]) } end
  elseif holder then
    if holder[1] ~= owner then answer = holder[2] end
  else
    local stored, previous = found[i], found[count + i]
    local id, expires
    if stored then
      id, expires = parse_record(stored)
    end
    if id and is_live(expires, now) then
      holder = { id, { held(lock, expires, now)[2] } }
      holders[lock] = holder
      if id ~= owner then answer = holder[2] end
    elseif id or not stored then
      local fence = KEYS[count + i]
      if not previous then
        local minted
        if retention == '0' then
          minted = redis.call('SET', fence, clock, 'NX')
        else
          minted = redis.call('SET', fence, clock, 'PX', retention, 'NX')
        end
        if minted then answer = clock end
      elseif #previous <= 15 and not string.find(previous, '%D') then
        local last = tonumber(previous)
        if last < clock_number then
          answer = clock
        elseif last < 900000000000000 then
          answer = print_number(last + 1)
        end
        if answer then
          fences[last_fence + 1], fences[last_fence + 2] = fence, answer
          last_fence = last_fence + 2
        end
      end
      if answer then winners[lock] = i end
    end
  end
  answers[i + 1] = answer
end

-- No lease without its fence.
if retention == '0' then
  if last_fence > 0 then redis.call('MSET', unpack(fences)) end
else
  for i = 1, last_fence, 2 do
    local px = print_number(retention + math.ceil((fences[i + 1] - clock) / 10))
    redis.call('SET', fences[i], fences[i + 1], 'PX', px)
  end
end
for i = 1, count do
  local digits = answers[i + 1]
  if type(digits) == 'string' then
    local lock, ttl = KEYS[i], ARGV[3 * i]
    local padded = string.sub('000000000000000', #digits + 1) .. digits
    local record = format_record(ARGV[3 * i - 1], print_number(now + ttl), now_text, ARGV[3 * i + 1], padded)
    local written
    if found[i] then
      written = redis.call('SET', lock, record, 'PX', ttl)
    else
      written = redis.call('SET', lock, record, 'PX', ttl, 'NX')
    end
    if written then
      redis.call('SET', KEYS[2 * count + i], lock, 'PX', ttl)
    else
      answers[i + 1] = false
    end
  elseif digits and winners[KEYS[i]] and not answers[winners[KEYS[i]] + 1] then
    -- The one before it was not granted the lock after all.
    answers[i + 1] = false
  end
end
return answers
