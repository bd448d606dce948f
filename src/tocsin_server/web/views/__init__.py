"""What each page shows, as plain data: functions of the services and of the URL, without HTML."""
