<#
.SYNOPSIS
  Installs the Stablehand supervisor as a Windows service, by way of NSSM (https://nssm.cc).
.DESCRIPTION
  Run it as administrator. The service stops by a control message (stablehand down), so that every bot ends in
  order; only what has not ended in time is ended by Ctrl-C, and then by force. The process tree is never killed:
  bots outlive a crash of the supervisor, and the next one adopts them. Logs are rotated by Stablehand itself.
.EXAMPLE
  .\install-service.ps1 -Config C:\stable\supervisor.toml -Python C:\stable\.venv\Scripts\python.exe
#>
[CmdletBinding()]
param(
    [Parameter(Mandatory = $true)] [string] $Config,
    [Parameter(Mandatory = $true)] [string] $Python,
    [string] $Name = 'stablehand',
    [string] $Nssm = 'nssm.exe',
    # The account that the service runs as, for example '.\trader'. A MetaTrader terminal belongs to the user who
    # installed it, so live accounts need that user; paper accounts run under LocalService as well.
    [System.Management.Automation.PSCredential] $Credential,
    # Longest time that stopping all bots may take, in seconds; above the bots' stop_timeout_seconds.
    [ValidateRange(10, 3600)] [int] $StopSeconds = 120
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

function Invoke-Nssm {
    & $Nssm @args | Out-Null
    if ($LASTEXITCODE -ne 0) { throw "nssm $($args -join ' ') ended with $LASTEXITCODE" }
}

$Config = (Resolve-Path -LiteralPath $Config).Path
$Python = (Resolve-Path -LiteralPath $Python).Path
if (-not (Get-Command $Nssm -ErrorAction SilentlyContinue)) { throw "$Nssm was not found; see docs/windows-service.md" }
if (Get-Service -Name $Name -ErrorAction SilentlyContinue) { throw "there is a service $Name; uninstall it first" }

# The whole file is checked first: a service that cannot start helps nobody.
& $Python -P -m supervisor --config $Config --check
if ($LASTEXITCODE -ne 0) { throw "the configuration is not right: see above" }

$Folder = Split-Path -Parent $Config
$Log = Join-Path $Folder 'service.log'

Invoke-Nssm install $Name $Python "-P -m supervisor --config `"$Config`""
Invoke-Nssm set $Name DisplayName 'Stablehand (trading bots)'
Invoke-Nssm set $Name Description "Supervises the bots of $Config"
Invoke-Nssm set $Name AppDirectory $Folder
Invoke-Nssm set $Name Start SERVICE_DELAYED_AUTO_START
Invoke-Nssm set $Name AppNoConsole 0                # a console of its own, for Ctrl-C as the second way to stop
# What it writes before its own log is open; it is a few lines a start, so nothing rotates it.
Invoke-Nssm set $Name AppStdout $Log
Invoke-Nssm set $Name AppStderr $Log
Invoke-Nssm set $Name AppRotateFiles 0
# Stop: first the control message, then Ctrl-C, then the end of this one process; never of its tree.
Invoke-Nssm set $Name AppEvents Stop/Pre "`"$Python`" -P -m console -c `"$Config`" down --timeout 50"
Invoke-Nssm set $Name AppStopMethodSkip 6           # no WM_CLOSE, no WM_QUIT: there is no window
Invoke-Nssm set $Name AppStopMethodConsole ($StopSeconds * 1000)
Invoke-Nssm set $Name AppKillProcessTree 0
# Ends: 0 was asked for, 2 is a wrong file; everything else is a crash, after which the next one adopts the bots.
Invoke-Nssm set $Name AppExit Default Restart
Invoke-Nssm set $Name AppExit 0 Exit
Invoke-Nssm set $Name AppExit 2 Exit
Invoke-Nssm set $Name AppRestartDelay 1000
Invoke-Nssm set $Name AppThrottle 5000

if ($Credential) {
    Invoke-Nssm set $Name ObjectName $Credential.UserName $Credential.GetNetworkCredential().Password
} else {
    Invoke-Nssm set $Name ObjectName LocalService
    Write-Warning "the service runs as LocalService: give it access to $Folder, or use -Credential"
}
Write-Output "installed $Name; start it with: Start-Service $Name"
