-- A string, or false where nothing is; for another type nothing and the reply that says so. Any other error
-- ends the script.
local function get(name, problem)
  local value = redis.pcall('GET', name)
  if type(value) ~= 'table' then return value end
  if string.find(value.err, '^%-?WRONGTYPE') then return nil, { problem, name } end
  error(value.err, 0)
end

-- Where the lock of a reverse mapping lies: false where there is none, nothing and a reply where it points
-- to what is no lock of this prefix.
local function follow(index, prefix)
  local lock, problem = get(index, -4)
  if not lock then return lock, problem end
  local rest = string.sub(lock, #prefix + 1)
  if string.sub(lock, 1, #prefix) ~= prefix or rest == ''
    or string.sub(rest, 1, 3) == 'id:' or string.sub(rest, 1, 6) == 'fence:'
  then
    return nil, { -4, index }
  end
  return lock
end

-- The shortest way to know one's own record: lockId and expiresAtMs, or nothing when it may be anything else.
local function own_record(stored, id)
  local begin = '{"lockId":"' .. id .. '","expiresAtMs":'
  if string.sub(stored, 1, #begin) ~= begin then return nil end
  local expires, acquired, fence = string.match(stored,
    '^(%d+),"acquiredAtMs":(%d+),"key":"[^"\\%c]+","fence":"(%d+)"}$', #begin + 1)
  if expires and #expires <= 15 and #acquired <= 15 and #fence <= 15 then return id, tonumber(expires) end
end
