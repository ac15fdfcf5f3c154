-- KEYS: locks, fences, reverse mappings. ARGV of each: lock id, ttl in ms, key as JSON text.
-- The time in ms, and for each: granted with its fence as text, held { free in ms }, or false for what
-- acquire.lua has to decide: a repeat, what can't be read, and what may be of another type.
local count = #ARGV / 3
local found = redis.call('MGET', unpack(KEYS, 1, 2 * count))
local clock, now, now_text = read_clock()
local clock_number = tonumber(clock)
local answers, fences = { now_text }, {}

for i = 1, count do
  local stored, previous = found[i], found[count + i]
  local id, expires
  local answer = false
  if stored then
    id, expires = parse_record(stored)
  end
  if id and is_live(expires, now) then
    if id ~= ARGV[3 * i - 2] then answer = { held(KEYS[i], expires, now)[2] } end
  elseif id or not stored then
    if not previous then
      if redis.call('SET', KEYS[count + i], clock, 'NX') then answer = clock end
    elseif #previous <= 15 and not string.find(previous, '%D') then
      local last = tonumber(previous)
      if last < clock_number then
        answer = clock
      elseif last < 900000000000000 then
        answer = print_number(last + 1)
      end
      if answer then
        fences[#fences + 1] = KEYS[count + i]
        fences[#fences + 1] = answer
      end
    end
  end
  answers[i + 1] = answer
end

-- No lease without its fence.
if #fences > 0 then redis.call('MSET', unpack(fences)) end
for i = 1, count do
  local digits = answers[i + 1]
  if type(digits) == 'string' then
    local lock, ttl = KEYS[i], ARGV[3 * i - 1]
    local padded = string.sub('000000000000000', #digits + 1) .. digits
    local record = format_record(ARGV[3 * i - 2], print_number(now + ttl), now_text, ARGV[3 * i], padded)
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
  end
end
return answers
