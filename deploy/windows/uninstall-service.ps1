<#
.SYNOPSIS
  Stops and removes the service that install-service.ps1 made. Data, logs and configuration stay.
#>
[CmdletBinding()]
param(
    [string] $Name = 'stablehand',
    [string] $Nssm = 'nssm.exe',
    [ValidateRange(10, 3600)] [int] $StopSeconds = 180
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

$Service = Get-Service -Name $Name -ErrorAction SilentlyContinue
if (-not $Service) { throw "there is no service $Name" }
if ($Service.Status -ne 'Stopped') {
    $Service.Stop()
    $Service.WaitForStatus('Stopped', [TimeSpan]::FromSeconds($StopSeconds))
}
& $Nssm remove $Name confirm | Out-Null
if ($LASTEXITCODE -ne 0) { throw "nssm remove ended with $LASTEXITCODE" }
Write-Output "removed $Name; its data stay"
