-- KEYS: locks, fences, reverse mappings. ARGV: for how long fences stay in ms ('0': for ever), then of each
-- lock id, ttl in ms, key as JSON text. A lock may be there several times: they are answered in turn.
-- The time in ms, and for each: granted with its fence as text, held { free in ms }, or false for what
-- acquire.lua has to decide: a repeat, what can't be read, and what may be of another type.
local retention, count = ARGV[1], (#ARGV - 1) / 3
local found = redis.call('MGET', unpack(KEYS, 1, 2 * count))
local clock, now, now_text = read_clock()
local clock_number = tonumber(clock)
local answers, fences = { now_text }, {}
-- Of each lock that is known to be taken: by which lock id, what others hear, and who was granted it here.
local owners, refusals, winners = {}, {}, {}

for i = 1, count do
  local lock, owner = KEYS[i], ARGV[3 * i - 1]
  local answer = false
  if owners[lock] then
    if owners[lock] ~= owner then answer = refusals[lock] end
  else
    local stored, previous = found[i], found[count + i]
    local id, expires
    if stored then
      id, expires = parse_record(stored)
    end
    if id and is_live(expires, now) then
      owners[lock], refusals[lock] = id, { held(lock, expires, now)[2] }
      if id ~= owner then answer = refusals[lock] end
    elseif id or not stored then
      local fence = KEYS[count + i]
      if not previous then
        local written
        if retention == '0' then
          written = redis.call('SET', fence, clock, 'NX')
        else
          written = redis.call('SET', fence, clock, 'PX', retention, 'NX')
        end
        if written then answer = clock end
      elseif #previous <= 15 and not string.find(previous, '%D') then
        local last = tonumber(previous)
        if last < clock_number then
          answer = clock
        elseif last < 900000000000000 then
          answer = print_number(last + 1)
        end
        if answer then
          fences[#fences + 1] = fence
          fences[#fences + 1] = answer
        end
      end
      if answer then
        owners[lock], refusals[lock], winners[lock] = owner, { tonumber(ARGV[3 * i]) }, i
      end
    end
  end
  answers[i + 1] = answer
end

-- No lease without its fence.
if #fences > 0 and retention == '0' then
  redis.call('MSET', unpack(fences))
else
  for i = 1, #fences, 2 do
    redis.call('SET', fences[i], fences[i + 1], 'PX', stay(fences[i + 1], clock, retention))
  end
end
for i = 1, count do
  local digits, lock = answers[i + 1], KEYS[i]
  if type(digits) == 'string' then
    local ttl = ARGV[3 * i]
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
  elseif winners[lock] and not answers[winners[lock] + 1] then
    -- Whoever it was to be behind was not granted it after all.
    answers[i + 1] = false
  end
end
return answers
