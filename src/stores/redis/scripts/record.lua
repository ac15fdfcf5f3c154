-- Shared by the scripts that change a lock. Numbers stay exact: a double holds 15 digits. They stay texts
-- where they can, because printing a number costs more than everything else here.

local function format_record(id, expires, acquired, key, fence)
  return '{"lockId":"' .. id .. '","expiresAtMs":' .. expires .. ',"acquiredAtMs":' .. acquired
    .. ',"key":' .. key .. ',"fence":"' .. fence .. '"}'
end

local function print_number(value)
  return string.format('%.0f', value)
end

local function is_time(value)
  return type(value) == 'number' and value >= 0 and value <= 9007199254740991 and value == math.floor(value)
end

-- lockId, expiresAtMs, and as texts acquiredAtMs, key in JSON, fence; nothing when the text is no record.
-- The pattern is the form that this library writes; whatever else is JSON takes the slow way.
local function parse_record(text)
  local id, expires, acquired, key, fence = string.match(text,
    '^{"lockId":"([%w_-]+)","expiresAtMs":(%d+),"acquiredAtMs":(%d+),"key":("[^"\\%c]+"),"fence":"(%d+)"}$')
  if id and #id == 22 and #expires <= 15 and #acquired <= 15 and #fence <= 15 then
    return id, tonumber(expires), acquired, key, fence
  end
  local ok, record = pcall(cjson.decode, text)
  if ok and type(record) == 'table'
    and type(record.lockId) == 'string' and #record.lockId == 22 and not string.find(record.lockId, '[^%w_-]')
    and is_time(record.expiresAtMs) and is_time(record.acquiredAtMs)
    and type(record.key) == 'string' and record.key ~= ''
    and type(record.fence) == 'string' and #record.fence <= 15 and string.find(record.fence, '^%d+$')
  then
    return record.lockId, record.expiresAtMs, print_number(record.acquiredAtMs), cjson.encode(record.key),
      record.fence
  end
end

-- The time in units of 100 microseconds as text, in milliseconds as number and as text.
local function read_clock()
  local time = redis.call('TIME')
  local micros = string.sub('000000', #time[2] + 1) .. time[2]
  local now = time[1] .. string.sub(micros, 1, 3)
  return time[1] .. string.sub(micros, 1, 4), tonumber(now), now
end

-- The predicate of liveness, with its tolerance.
local function is_live(expires, now)
  return expires > now - 1000
end

local function wake(lock, from)
  redis.pcall('PUBLISH', lock .. ':wake', from)
end
